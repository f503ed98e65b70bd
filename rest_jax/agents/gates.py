"""Gates: whether an attempt is good enough, or the question is tried again.

`gold` is told by the run whether an answer is right: one bit of the tool `oracle`, which stands in the trajectory like
any tool's reply. The gold answer itself never reaches an agent. Only a method that says so (`Method.oracle`) is told,
and what it scores is an oracle's result: never a column beside methods that are told nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from rest_jax.agents.attempt import Attempt
from rest_jax.agents.attempts import stands
from rest_jax.agents.cot import think
from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import Prompt
from rest_jax.core.effects import ORACLE, RIGHT, CallTool, Effect, Generated, ToolReply
from rest_jax.core.trajectory import Question

Gate = Callable[[Question, Prompt, Limits, Attempt], Generator[Effect, Any, bool]]
"""Whether an attempt is good enough."""


def gold(question: Question, prompt: Prompt, limits: Limits, attempt: Attempt) -> Generator[Effect, Any, bool]:
    """The answer is right, says the oracle; it is not asked where there is none.

    Raises ValueError where nobody answers the question, as for a method that does not say that it asks.
    """
    if attempt.outcome.answer is None:
        return False
    reply: ToolReply = yield CallTool(ORACLE, {"answer": attempt.outcome.answer})
    if reply.fault is not None:
        raise ValueError(f"no oracle answered ({reply.fault.message}); write oracle=True into the method")
    return reply.content == RIGHT


def own_word(question: Question, prompt: Prompt, limits: Limits, attempt: Attempt) -> Generator[Effect, Any, bool]:
    """The model itself finds nothing wrong, in a call of step `check`; it is not asked where there is no answer."""
    if attempt.outcome.answer is None:
        return False
    checking = prompt.beside["check"].telling(*attempt.told)
    verdict: Generated = yield think(question, checking, limits, "check", attempt.trial)
    return stands(verdict.text)
