"""Replay: an agent never touches the world, so what it was given runs it again."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rest_jax.core.effects import (
    Agent,
    CallTool,
    Effect,
    Generate,
    Generated,
    Leaf,
    Outcome,
    Score,
    Scored,
    ToolReply,
    choose,
    leaves,
    outcome_of,
)
from rest_jax.core.trajectory import Trajectory

Given = Generated | Scored | ToolReply

_GIVEN_FOR: dict[type, type] = {Generate: Generated, Score: Scored, CallTool: ToolReply}


def replayed(trajectory: Trajectory) -> list[Given]:
    """What the agent of a stored trajectory was given, for `replay`: calls, scores and tool calls, each in order."""
    return [
        *(Generated(call.candidates, call.chosen) for call in trajectory.calls),
        *(score.outcome for score in trajectory.scores),
        *(ToolReply(call.content, call.data, call.fault, call.tool_version) for call in trajectory.tool_calls),
    ]


def replay(agent: Agent, given: Sequence[Given]) -> tuple[Outcome, list[Effect]]:
    """Run an agent on recorded outcomes; returns its own outcome and the effects that it yielded.

    Each effect takes the next outcome of its kind, so only the order within a kind matters, and effects that an agent
    yielded together (`All`) need no record of it. The reply among a call's candidates is chosen anew by the effect's
    own rule: a trajectory stores the one that the agent went on with.

    Raises ValueError when the agent wants more outcomes than were recorded, or leaves some: then the record is of
    another agent, question or prompt.
    """
    left: defaultdict[type, deque[Any]] = defaultdict(deque)
    for one in given:
        left[type(one)].append(one)
    asked: list[Effect] = []

    def take(leaf: Leaf) -> Given:
        recorded = left[_GIVEN_FOR[type(leaf)]]
        if not recorded:
            raise ValueError(f"the agent wants more than the {len(given)} recorded outcomes: {leaf}")
        one = recorded.popleft()
        return replace(one, chosen=choose(one.candidates, leaf.choose)) if isinstance(leaf, Generate) else one

    outcome = None
    try:
        while True:
            effect = agent.send(outcome)
            asked.append(effect)
            outcome = outcome_of(effect, map(take, leaves(effect)))
    except StopIteration as end:
        if unused := sum(map(len, left.values())):
            raise ValueError(f"the agent ended and left {unused} of {len(given)} recorded outcomes") from None
        return end.value, asked
    finally:
        agent.close()
