"""An episode: one attempt of one agent at one question. It turns effects into orders, and results into outcomes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rest_jax.core.effects import (
    Agent,
    CallTool,
    Candidate,
    Effect,
    Generate,
    Generated,
    Leaf,
    Outcome,
    Sampling,
    Score,
    Scored,
    Status,
    ToolReply,
    leaves,
    outcome_of,
    stopped,
)
from rest_jax.core.keys import KeyPath
from rest_jax.core.policy import Failed, Request, ScoreRequest
from rest_jax.core.text import valid_unicode
from rest_jax.core.trajectory import Question, ToolCall
from rest_jax.rollout.journal import ToolKey
from rest_jax.rollout.recording import Encode, Recording


@dataclass(frozen=True)
class Job:
    """A trajectory to be made: which agent answers which question, and the random key's part that names it."""

    question: Question
    sample: int
    seed: int
    generation: int
    task: str
    split: str
    agent: str

    @property
    def key(self) -> str:
        """Names the job within its journal."""
        return f"{self.seed}/{self.generation}/{self.question.id}#{self.sample}"

    def key_path(self, trial: int, call: int, candidate: int) -> KeyPath:
        return KeyPath(self.seed, self.generation, self.question.id, self.sample, trial, call, candidate)


@dataclass(frozen=True)
class ToolRequest:
    """A tool call to be made."""

    id: int
    key: ToolKey
    tool: str
    arguments: Mapping[str, Any]


Order = Request | ScoreRequest | ToolRequest


def well_formed(reply: ToolReply) -> ToolReply:
    """The reply, all of its text `valid_unicode`."""
    fault = reply.fault and replace(reply.fault, message=valid_unicode(reply.fault.message))
    data = json.loads(valid_unicode(json.dumps(dict(reply.data), ensure_ascii=False)))
    return replace(reply, content=valid_unicode(reply.content), data=data, fault=fault)


@dataclass
class _Slot:
    """A leaf under way: its parts (candidates, continuations, a reply) arrive in any order."""

    leaf: Leaf
    place: int
    """The call's index, or the ordinal of the score call or of the tool call."""
    parts: list[Any]

    @property
    def settled(self) -> bool:
        return all(part is not None for part in self.parts)


class Episode:
    """Drives an agent: `advance` gives orders, `settle` takes their results, until `outcome` is there."""

    def __init__(
        self,
        job: Job,
        agent: Agent,
        *,
        session: int,
        attempt: int,
        encode: Encode,
        bos_ids: tuple[int, ...],
        sampling: Sampling,
        replies: Mapping[ToolKey, ToolReply],
        tickets: Iterator[int],
    ) -> None:
        self.job = job
        self.session = session
        self.attempt = attempt
        self.recording = Recording(encode)
        self.tool_calls: list[ToolCall] = []
        self.outcome: Outcome | None = None
        self._agent = agent
        self._bos_ids = bos_ids
        self._sampling = sampling
        self._replies = replies
        self._tickets = tickets
        self._effect: Effect | None = None
        self._slots: list[_Slot] = []
        self._places: dict[int, tuple[_Slot, int]] = {}

    @property
    def waiting(self) -> bool:
        """Whether the agent's effect lacks a result."""
        return not all(slot.settled for slot in self._slots)

    @property
    def failure(self) -> str | None:
        """What the infrastructure's failure says that is among the results of the agent's effect."""
        for slot in self._slots:
            for part in slot.parts:
                if isinstance(part, Failed):
                    return part.why
                if isinstance(part, ToolReply) and part.fault and part.fault.kind.is_infrastructure:
                    return part.fault.message
        return None

    def settle(self, ticket: int, result: Candidate | Failed | ToolReply) -> None:
        """Take the result of an order."""
        slot, part = self._places.pop(ticket)
        slot.parts[part] = result

    def advance(self) -> list[Order]:
        """Give the agent its outcome and return the orders of its next effect; none when it has ended.

        Whatever the agent's own code raises, or a wrong effect of its, ends this episode alone, as `agent_error`. A
        policy that failed has nothing to tell an agent: that ends the episode as `tool_failure`.
        """
        if any(isinstance(part, Failed) for slot in self._slots for part in slot.parts):
            self.close()
            self.outcome = stopped(Status.TOOL_FAILURE, self.failure or "")
        try:
            while self.outcome is None:
                orders = self._step()
                if self.waiting:
                    return orders
        except Exception as error:
            self.outcome = stopped(Status.AGENT_ERROR, f"{type(error).__name__}: {error}")
        return []

    def close(self) -> None:
        """The agent is abandoned."""
        self._agent.close()

    def _step(self) -> list[Order]:
        outcome = None if self._effect is None else outcome_of(self._effect, map(self._finish, self._slots))
        self._slots = []
        try:
            self._effect = self._agent.send(outcome)
        except StopIteration as end:
            if not isinstance(end.value, Outcome):
                raise TypeError(f"an agent must return an Outcome, not {type(end.value).__name__}") from None
            self.outcome = end.value
            return []
        after = len(self.recording.calls) - 1
        return [order for leaf in leaves(self._effect) for order in self._order(leaf, after)]

    def _order(self, leaf: Leaf, after: int) -> Sequence[Order]:
        match leaf:
            case Generate():
                return self._generate(leaf)
            case Score():
                return self._score(leaf, after)
            case CallTool():
                return self._call_tool(leaf, after)
        raise TypeError(f"an agent may yield Generate, Score, CallTool or All, not {type(leaf).__name__}")

    def _generate(self, leaf: Generate) -> Sequence[Order]:
        if leaf.max_tokens < 1 or leaf.n < 1:
            raise ValueError(f"Generate: max_tokens is {leaf.max_tokens} and n is {leaf.n}; ask for 1 or more of both")
        if "" in leaf.stop:
            raise ValueError("Generate: a stop string is empty: every reply would end before it begins")
        call = self.recording.begin(leaf)
        ids = self._context(self.recording.ids[call.index])
        sampling = leaf.sampling or self._sampling
        return [
            Request(
                id=ticket,
                session=self.session,
                ids=ids,
                key=self.job.key_path(leaf.trial, call.index, candidate),
                max_tokens=leaf.max_tokens,
                stop=leaf.stop,
                sampling=sampling,
                role=leaf.role,
                segments=leaf.transcript.segments,
            )
            for candidate, ticket in enumerate(self._open(leaf, call.index, leaf.n))
        ]

    def _score(self, leaf: Score, after: int) -> Sequence[Order]:
        score, ids = self.recording.begin_score(leaf, after)
        context = self._context(ids)
        tickets = self._open(leaf, len(self.recording.scores) - 1, len(score.continuations))
        return [
            ScoreRequest(ticket, self.session, context, continuation.ids or (), leaf.role)
            for ticket, continuation in zip(tickets, score.continuations, strict=True)
        ]

    def _context(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """What a policy is given: an agent's transcript may be empty only where the model has a token to begin with."""
        if not (self._bos_ids or ids):
            raise ValueError("the transcript is empty, and this model has no token to begin with")
        return self._bos_ids + ids

    def _call_tool(self, leaf: CallTool, after: int) -> Sequence[Order]:
        ordinal = len(self.tool_calls)
        self.tool_calls.append(ToolCall(after, leaf.tool, dict(leaf.arguments), ""))
        key = ToolKey.of(ordinal, leaf.tool, leaf.arguments)
        (ticket,) = self._open(leaf, ordinal, 1)
        if key in self._replies:
            self.settle(ticket, self._replies[key])
            return []
        return [ToolRequest(ticket, key, leaf.tool, leaf.arguments)]

    def _open(self, leaf: Leaf, place: int, parts: int) -> list[int]:
        """A slot for a leaf; returns a ticket for each of its parts."""
        slot = _Slot(leaf, place, [None] * parts)
        self._slots.append(slot)
        tickets = [next(self._tickets) for _ in range(parts)]
        self._places.update({ticket: (slot, part) for part, ticket in enumerate(tickets)})
        return tickets

    def _finish(self, slot: _Slot) -> Generated | Scored | ToolReply:
        """A settled leaf's outcome, recorded."""
        match slot.leaf:
            case Generate() as leaf:
                return self.recording.complete(slot.place, leaf, tuple(slot.parts))
            case Score():
                return self.recording.complete_score(slot.place, tuple(slot.parts))
            case CallTool():
                (reply,) = slot.parts
                self.tool_calls[slot.place] = replace(
                    self.tool_calls[slot.place],
                    content=reply.content,
                    fault=reply.fault,
                    tool_version=reply.tool_version,
                    data=reply.data,
                )
                return reply
