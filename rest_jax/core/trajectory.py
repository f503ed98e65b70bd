"""Trajectories: the ordered calls by which an agent answered a question, tokens included.

Tokens are made once. A call stores only what its parent has not: `segments` continue the parent's transcript after
the candidate `parent_candidate`; a call without a parent opens a new transcript. ReAct is the special case of one
growing transcript.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rest_jax.core.effects import NO_MORE, NOT_FOUND, Candidate, Role, Scored, Status, ToolFault
from rest_jax.core.transcript import Segment, segment_of

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class Call:
    """One question put to a policy and its candidates. All segments carry ids."""

    index: int
    step: str
    trial: int
    role: Role
    segments: tuple[Segment, ...]
    candidates: tuple[Candidate, ...]
    chosen: int = 0
    parent: int | None = None
    parent_candidate: int = 0


@dataclass(frozen=True)
class ToolCall:
    """One call of a tool, made after model call `after` (-1: before the first)."""

    after: int
    tool: str
    arguments: Mapping[str, Any]
    content: str
    fault: ToolFault | None = None
    tool_version: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    """What the reply held for the agent alone: with it a stored trajectory replays. Not part of the digest."""

    @property
    def found(self) -> bool:
        """Whether it showed anything: neither a fault nor the words of a search that found nothing."""
        return self.fault is None and not self.content.startswith((NOT_FOUND, NO_MORE))


@dataclass(frozen=True)
class ScoreCall:
    """Log-probs of given continuations, asked for after model call `after` (-1: before the first).

    `segments`, `parent` and `parent_candidate` are its transcript, as in a `Call`. Nothing in it was sampled, so
    nothing in it is learned.
    """

    after: int
    step: str
    role: Role
    segments: tuple[Segment, ...]
    continuations: tuple[Segment, ...]
    """What was scored, with ids and log-probs; without either where the policy had no room or produced a NaN."""
    parent: int | None = None
    parent_candidate: int = 0

    @property
    def outcome(self) -> Scored:
        """What the agent was given."""
        return Scored(
            tuple(continuation.ids or () for continuation in self.continuations),
            tuple(continuation.logprobs or () for continuation in self.continuations),
        )


@dataclass(frozen=True)
class Trajectory:
    """How one agent answered one question, once."""

    question_id: str
    question: str
    sample: int
    seed: int
    generation: int
    """Which Grow of a run made it, from 1; 0 outside of Grows. Part of every random key."""
    agent: str
    task: str
    split: str
    status: Status
    answer: str | None
    why: str
    calls: tuple[Call, ...]
    tool_calls: tuple[ToolCall, ...]
    tokenizer_digest: str
    weights_digest: str
    scores: tuple[ScoreCall, ...] = ()
    seconds: float = 0.0
    """Wall time from the first effect to the outcome; not part of the digest."""
    attempts: int = 1
    """How often it was begun because infrastructure failed; not part of the digest."""

    @property
    def id(self) -> str:
        return f"{self.question_id}#{self.sample}"

    @property
    def searches(self) -> int:
        return sum(call.tool == "search" for call in self.tool_calls)

    @property
    def mean_logprob(self) -> float:
        """Mean log-prob per token of what the actor said, by which it went on; minus infinity where that is not known
        of all of it."""
        said = [call.candidates[call.chosen].logprobs for call in self.calls if call.role is Role.ACTOR]
        known = [logprob for logprobs in said for logprob in logprobs or ()]
        return sum(known) / len(known) if known and None not in said else float("-inf")

    @property
    def model_tokens(self) -> int:
        return sum(len(candidate.ids) for call in self.calls for candidate in call.candidates)


def context_of(calls: Sequence[Call], index: int) -> tuple[Segment, ...]:
    """The whole transcript that call `index` saw, ids included."""
    call = calls[index]
    if call.parent is None:
        return call.segments
    spoken = segment_of(calls[call.parent].candidates[call.parent_candidate])
    return (*context_of(calls, call.parent), spoken, *call.segments)


def rechosen(trajectory: Trajectory, rule: Callable[[Call], int]) -> Trajectory:
    """The trajectory with the candidates that another rule would have chosen, as targets for training: nothing is
    sampled anew (off-policy, as ReST meets ReAct does with its ranker, section 3.5).

    A call that another one continues keeps its own, because what follows was said after that.
    """
    continued = {call.parent for call in trajectory.calls}
    calls = (
        call if call.index in continued else replace(call, chosen=range(len(call.candidates))[rule(call)])
        for call in trajectory.calls
    )
    return replace(trajectory, calls=tuple(calls))


@dataclass(frozen=True)
class Question:
    """A question of a task, with its gold answer. `meta` is the task's own (hops, level, supporting titles …)."""

    id: str
    text: str
    answer: str
    """Empty where no answer is known: there is nothing to score then."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    alternatives: tuple[str, ...] = ()
    """Answers that are as good as `answer`."""

    @property
    def golds(self) -> tuple[str, ...]:
        """All gold answers; none where none is known."""
        return (self.answer, *self.alternatives) if self.answer else ()

    @property
    def blind(self) -> Question:
        """The question as an agent sees it: what it is given, a prompt may show."""
        return Question(self.id, self.text, "")
