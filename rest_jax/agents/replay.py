"""Replay: an agent never touches the world, so a recorded list of outcomes runs it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rest_jax.core.effects import Agent, Effect, Outcome


def replay(agent: Agent, outcomes: Sequence[Any]) -> tuple[Outcome, list[Effect]]:
    """Run an agent on recorded outcomes; returns its own outcome and the effects that it yielded.

    Raises ValueError when the agent wants more outcomes than were recorded, or ends before the last of them: then the
    record is of another agent, question or prompt.
    """
    asked: list[Effect] = []
    try:
        asked.append(next(agent))
        for outcome in outcomes:
            asked.append(agent.send(outcome))
    except StopIteration as end:
        if len(asked) != len(outcomes):
            raise ValueError(f"the agent ended after {len(asked)} of {len(outcomes)} recorded outcomes") from None
        return end.value, asked
    agent.close()
    raise ValueError(f"the agent wants more than the {len(outcomes)} recorded outcomes: {asked[-1]}")
