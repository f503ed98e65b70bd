"""Gates: whether an attempt is what the question comes to, or it is tried again.

`gold` is told by the run whether an answer is right: one bit of the tool `oracle`, which stands in the trajectory like
any tool's reply. The gold answer itself never reaches an agent. Only a method that says so (`Method.oracle`) is told,
and what it scores is an oracle's result: never a column beside methods that are told nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from rest_jax.agents.attempt import Attempt
from rest_jax.agents.attempts import latest, stands
from rest_jax.agents.cot import think
from rest_jax.agents.endings import broken_off
from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import Prompt
from rest_jax.core.effects import ORACLE, RIGHT, WON, CallTool, Effect, Generated, Outcome, ToolReply
from rest_jax.core.trajectory import Question

Passed = Generator[Effect, Any, Outcome | None]
"""What the question comes to by an attempt; None: it is tried again."""
Gate = Callable[[Question, Prompt, Limits, Attempt], Passed]


def gold(question: Question, prompt: Prompt, limits: Limits, attempt: Attempt) -> Passed:
    """The answer is right, says the oracle; it is not asked where there is none.

    Raises ValueError where nobody answers the question, as for a method that does not say that it asks.
    """
    if attempt.outcome.answer is None:
        return None
    reply: ToolReply = yield CallTool(ORACLE, {"answer": attempt.outcome.answer})
    if reply.fault is not None:
        raise ValueError(f"no oracle answered ({reply.fault.message}); write oracle=True into the method")
    return attempt.outcome if reply.content == RIGHT else None


def own_word(question: Question, prompt: Prompt, limits: Limits, attempt: Attempt) -> Passed:
    """The model itself finds nothing wrong, in a call of step `check`; it is not asked where there is no answer. An
    attempt that it has no room to check stands."""
    if attempt.outcome.answer is None:
        return None
    checking = prompt.beside["check"].telling(*attempt.told)
    verdict: Generated = yield think(question, checking, limits, "check", attempt.trial)
    if (broken := broken_off(verdict)) is not None:
        return latest(attempt.outcome, broken)
    return attempt.outcome if stands(verdict.text) else None


def won(question: Question, prompt: Prompt, limits: Limits, attempt: Attempt) -> Passed:
    """The gate of an attempt at a game: it was won."""
    yield from ()
    return attempt.outcome if attempt.outcome.answer == WON else None
