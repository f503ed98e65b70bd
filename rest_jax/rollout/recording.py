"""Recording: a transcript becomes ids once, and a call keeps only what its parent has not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from rest_jax.core.effects import Candidate, Generate, Generated, Outcome, Score, Scored, choose
from rest_jax.core.policy import TextCodec
from rest_jax.core.trajectory import Call, ScoreCall
from rest_jax.core.transcript import Segment, Source, Transcript, segment_of

CACHED_TEXTS = 4096
"""Texts whose ids are remembered: worked examples and cues come back in every transcript."""

Encode = Callable[[Segment], Segment]
"""Gives a segment its ids."""


def encoder(codec: TextCodec) -> Encode:
    """An `Encode` for a tokenizer: sampled ids stay as they are, text is encoded by its author's trust."""
    trusted = lru_cache(CACHED_TEXTS)(codec.encode_trusted)
    untrusted = lru_cache(CACHED_TEXTS)(codec.encode_untrusted)

    def encode(segment: Segment) -> Segment:
        if segment.ids is not None:
            return segment
        return replace(segment, ids=(trusted if segment.source is Source.PROMPT else untrusted)(segment.text))

    return encode


def find_parent(
    calls: Sequence[Call], contexts: Sequence[tuple[Segment, ...]], segments: tuple[Segment, ...]
) -> tuple[int, int] | None:
    """The latest call that a transcript continues, and the candidate after which it does; None when it is new.

    `contexts` are the transcripts that the calls saw, in the agent's own segments. Of equal candidates the chosen one
    is taken, else the first.
    """
    for call, context in zip(reversed(calls), reversed(contexts), strict=True):
        length = len(context)
        if len(segments) <= length or segments[:length] != context:
            continue
        said = [at for at, candidate in enumerate(call.candidates) if segment_of(candidate) == segments[length]]
        if said:
            return call.index, call.chosen if call.chosen in said else said[0]
    return None


@dataclass(frozen=True)
class _Encoded:
    """A transcript with ids: the call that it continues, what it adds to that, and all of its ids."""

    parent: int | None
    parent_candidate: int
    new: tuple[Segment, ...]
    ids: tuple[int, ...]


@dataclass
class Recording:
    """What one trajectory in the making asked of its policies."""

    encode: Encode
    calls: list[Call] = field(default_factory=list)
    scores: list[ScoreCall] = field(default_factory=list)
    contexts: list[tuple[Segment, ...]] = field(default_factory=list)
    ids: list[tuple[int, ...]] = field(default_factory=list)
    """The ids of each call's whole transcript."""

    def begin(self, effect: Generate) -> Call:
        """Record a call that has no candidates yet."""
        found = self._encoded(effect.transcript)
        if found.parent is not None:
            self.calls[found.parent] = replace(self.calls[found.parent], chosen=found.parent_candidate)
        call = Call(
            index=len(self.calls),
            step=effect.step,
            trial=effect.trial,
            role=effect.role,
            segments=found.new,
            candidates=(),
            parent=found.parent,
            parent_candidate=found.parent_candidate,
        )
        self.calls.append(call)
        self.contexts.append(effect.transcript.segments)
        self.ids.append(found.ids)
        return call

    def complete(self, index: int, effect: Generate, candidates: tuple[Candidate, ...]) -> Generated:
        """Record a call's candidates and choose the reply."""
        chosen = choose(candidates, effect.choose)
        self.calls[index] = replace(self.calls[index], candidates=candidates, chosen=chosen)
        return Generated(candidates, chosen)

    def ended(self, outcome: Outcome) -> tuple[Call, ...]:
        """The calls of an agent that came to this; one that raised may have begun others."""
        made = [call for call in self.calls if call.candidates]
        drew_several = [place for place, call in enumerate(made) if len(call.candidates) > 1]
        if drew_several and outcome.candidate is not None:
            made[drew_several[-1]] = replace(made[drew_several[-1]], chosen=outcome.candidate)
        return tuple(made)

    def begin_score(self, effect: Score, after: int) -> tuple[ScoreCall, tuple[int, ...]]:
        """Record a score call that has no log-probs yet; returns it with the ids of its whole transcript."""
        found = self._encoded(effect.transcript)
        score = ScoreCall(
            after=after,
            step=effect.step,
            role=effect.role,
            segments=found.new,
            continuations=tuple(self.encode(Segment(Source.QUOTE, text)) for text in effect.continuations),
            parent=found.parent,
            parent_candidate=found.parent_candidate,
        )
        self.scores.append(score)
        return score, found.ids

    def complete_score(self, place: int, candidates: tuple[Candidate, ...]) -> Scored:
        """Record the log-probs of a score call's continuations; one that was refused has neither ids nor log-probs."""
        continuations = tuple(
            replace(continuation, ids=candidate.ids, logprobs=candidate.logprobs or ())
            for continuation, candidate in zip(self.scores[place].continuations, candidates, strict=True)
        )
        self.scores[place] = replace(self.scores[place], continuations=continuations)
        why = next((candidate.why for candidate in candidates if candidate.why), "")
        return replace(self.scores[place].outcome, why=why)

    def _encoded(self, transcript: Transcript) -> _Encoded:
        segments = transcript.segments
        parent, candidate = find_parent(self.calls, self.contexts, segments) or (None, 0)
        before: tuple[int, ...] = ()
        if parent is not None:
            before = (*self.ids[parent], *self.calls[parent].candidates[candidate].ids)
            segments = segments[len(self.contexts[parent]) + 1 :]
        new = tuple(self.encode(segment) for segment in segments)
        return _Encoded(parent, candidate, new, before + ids_of(new))


def ids_of(segments: Sequence[Segment]) -> tuple[int, ...]:
    """The ids of encoded segments, one after another."""
    return tuple(token for segment in segments for token in segment.ids or ())
