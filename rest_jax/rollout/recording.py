"""Recording: a transcript becomes ids once, and a call keeps only what its parent has not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from rest_jax.core.effects import Candidate, Choose, Generate, Generated
from rest_jax.core.policy import TextCodec
from rest_jax.core.trajectory import Call
from rest_jax.core.transcript import Segment, Source, segment_of

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


def choose(candidates: Sequence[Candidate], how: Choose) -> int:
    """The candidate that becomes the reply; the first of equals."""
    if how is Choose.FIRST:
        return 0
    return max(range(len(candidates)), key=lambda at: (candidates[at].mean_logprob, -at))


@dataclass
class Recording:
    """The calls of one trajectory in the making."""

    encode: Encode
    calls: list[Call] = field(default_factory=list)
    contexts: list[tuple[Segment, ...]] = field(default_factory=list)
    ids: list[tuple[int, ...]] = field(default_factory=list)
    """The ids of each call's whole transcript."""

    def begin(self, effect: Generate) -> Call:
        """Record a call that has no candidates yet."""
        segments = effect.transcript.segments
        found = find_parent(self.calls, self.contexts, segments)
        parent, candidate = found or (None, 0)
        before: tuple[int, ...] = ()
        new = segments
        if parent is not None:
            self.calls[parent] = replace(self.calls[parent], chosen=candidate)
            before = (*self.ids[parent], *self.calls[parent].candidates[candidate].ids)
            new = segments[len(self.contexts[parent]) + 1 :]
        encoded = tuple(self.encode(segment) for segment in new)
        call = Call(len(self.calls), effect.step, 0, effect.role, encoded, (), 0, parent, candidate)
        self.calls.append(call)
        self.contexts.append(segments)
        self.ids.append(before + ids_of(encoded))
        return call

    def complete(self, index: int, effect: Generate, candidates: tuple[Candidate, ...]) -> Generated:
        """Record a call's candidates and choose the reply."""
        chosen = choose(candidates, effect.choose)
        self.calls[index] = replace(self.calls[index], candidates=candidates, chosen=chosen)
        return Generated(candidates, chosen)


def ids_of(segments: Sequence[Segment]) -> tuple[int, ...]:
    """The ids of encoded segments, one after another."""
    return tuple(token for segment in segments for token in segment.ids or ())
