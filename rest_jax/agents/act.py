"""Act: ReAct without its thoughts (Yao et al. 2023, section 3.2). The same generator plays it, after another cue."""

from __future__ import annotations

from rest_jax.agents.actions import action_text
from rest_jax.agents.prompt import Line
from rest_jax.core.demonstration import Demonstration

CUE = "Action:"


def act_lines(demonstration: Demonstration) -> tuple[Line, ...]:
    """A demonstration's actions, a line each: ` Verb[argument]`."""
    return tuple(
        Line(" " + " ".join(action_text(turn.action, turn.argument).removeprefix(CUE).split()), turn.observation)
        for turn in demonstration.turns
    )
