"""How agents moved through their methods: from step to step, read from what they left behind.

A method's picture (as at the head of `agents/reflexion.py`) has states and arrows. A trajectory's calls are the states
that it came through, and two that follow one another are an arrow that it took, so that which branches a model really
takes is counted, not supposed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from rest_jax.agents.attempts import answered, is_attempt
from rest_jax.agents.program import PYTHON, ran
from rest_jax.core.effects import ORACLE
from rest_jax.core.trajectory import Call, ToolCall, Trajectory


def moves(trajectory: Trajectory) -> tuple[str, ...]:
    """The arrows of one trajectory, in order, the last into how it ended: `think → feedback`, `feedback → finished`."""
    return tuple(f"{before} → {after}" for before, after in pairwise(_states(trajectory)))


def moved(trajectories: Sequence[Trajectory]) -> Mapping[str, int]:
    """Arrow → how many of the trajectories took it, by name."""
    taken = Counter(move for trajectory in trajectories for move in set(moves(trajectory)))
    return dict(sorted(taken.items()))


def _states(trajectory: Trajectory) -> Iterator[str]:
    yield "question"
    for call in (None, *trajectory.calls):
        if call is not None:
            yield _said(trajectory, call)
        after = -1 if call is None else call.index
        yield from (_found(tool) for tool in trajectory.tool_calls if tool.after == after)
    yield trajectory.status.value


def _said(trajectory: Trajectory, call: Call) -> str:
    in_one_call = is_attempt(call) and call.step not in ("act", "play")
    silent = in_one_call and answered(trajectory, call) is None
    return f"{call.step} without an answer" if silent else call.step


def _found(call: ToolCall) -> str:
    if call.fault is not None:
        return f"{call.tool}: {call.fault.kind.value}"
    if call.tool == ORACLE:
        return f"{call.tool}: {call.content}"
    if call.tool == PYTHON:
        return f"{call.tool}: {'ran' if ran(call.data) else 'failed'}"
    return call.tool
