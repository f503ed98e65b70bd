"""One attempt at a question, which any agent may make: what it came to, and what was said and shown in it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any

from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import OBSERVATION, Prompt, Told
from rest_jax.agents.react import shown
from rest_jax.core.effects import Agent, Effect, Generate, Generated, Outcome, Sampling, Status, ToolReply
from rest_jax.core.trajectory import Question

Run = Callable[[Question, Prompt, Limits], Agent]


@dataclass(frozen=True)
class Attempt:
    """An attempt at a question, over."""

    trial: int
    outcome: Outcome
    told: tuple[Told, ...] = ()
    """What was said and shown in it, a line each."""
    found: tuple[ToolReply, ...] = ()
    """What its tools replied."""

    @property
    def said(self) -> tuple[Told, ...]:
        """What the model said in it, without what tools showed."""
        return tuple(line for line in self.told if line[0] != OBSERVATION)

    @property
    def broken(self) -> bool:
        """Whether nothing can follow: it had no room, or it says nothing of the policy."""
        return self.outcome.status.is_masked or self.outcome.status is Status.CONTEXT_LIMIT


def attempted(
    agent: Agent, trial: int, cue: str, limits: Limits, *, step: str | None = None, sampling: Sampling | None = None
) -> Generator[Effect, Any, Attempt]:
    """Let an agent attempt the question, and note what it says and is shown. It may yield one effect at a time.

    `step` and `sampling` are those of its calls; None: its own.
    """
    told, found, result = list[Told](), list[ToolReply](), None
    try:
        while True:
            effect = agent.send(result)
            if isinstance(effect, Generate):
                own = effect.sampling
                effect = replace(effect, trial=trial, step=step or effect.step, sampling=sampling or own)
            result = yield effect
            if isinstance(result, Generated):
                told.append((cue, result.text))
            else:
                told.append((OBSERVATION, shown(result, limits)))
                found.append(result)
    except StopIteration as end:
        return Attempt(trial, end.value, tuple(told), tuple(found))
