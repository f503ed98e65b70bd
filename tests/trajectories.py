"""A trajectory of which a test names what matters to it."""

from __future__ import annotations

from typing import Any

from rest_jax.core.effects import Status
from rest_jax.core.trajectory import Trajectory


def trajectory(**given: Any) -> Trajectory:
    """A trajectory of ReAct on Atlas without calls, but for what is given; without an answer, at the step limit."""
    status = Status.STEP_LIMIT if given.get("answer", "Oslo") is None else Status.FINISHED
    plain: dict[str, Any] = {
        "question_id": "q",
        "question": "Where?",
        "sample": 0,
        "seed": 0,
        "generation": 0,
        "agent": "react",
        "task": "atlas",
        "split": "train",
        "status": status,
        "answer": "Oslo",
        "why": "",
        "calls": (),
        "tool_calls": (),
        "tokenizer_digest": "t",
        "weights_digest": "w",
    }
    return Trajectory(**{**plain, **given})
