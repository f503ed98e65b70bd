"""Append-only transcripts: what a model saw and said, segment by segment.

A transcript is the model's context as an ordered list of segments. Text enters once and is encoded once, segment by
segment; tokens that a model sampled are kept exactly as sampled and are never re-encoded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from rest_jax.core.effects import Candidate, Generated


class Source(StrEnum):
    """Who wrote a segment; it decides how the text is encoded and whether its tokens are learned."""

    PROMPT = "prompt"
    """Trusted text of the agent: control tokens in it are control tokens."""
    MODEL = "model"
    """Tokens that a policy produced in this very transcript; the only tokens that are learned."""
    TOOL = "tool"
    """Untrusted text of a tool: no added, control or user-defined token may come from it."""
    QUOTE = "quote"
    """Untrusted text copied from elsewhere: the question, or a model's words from another transcript."""
    IMPORTED = "imported"
    """Text that some other author said in the model's place (a demonstration, a remote teacher): learned as the
    model's, with null log-probs."""


@dataclass(frozen=True)
class Segment:
    """A stretch of context by one author.

    `ids` are given for what a policy said (exactly as sampled) and None for text, which the policy's own tokenizer
    encodes. `shots` marks few-shot text, which a *bare* training example leaves out.
    """

    source: Source
    text: str
    ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    shots: bool = False


@dataclass(frozen=True)
class Transcript:
    """An immutable list of segments; every method returns a longer one.

    `overhang` holds the characters that the last reply's tokens already contain of the stop string that ended it;
    the next trusted segment leaves them out, so that no character stands twice.
    """

    segments: tuple[Segment, ...] = ()
    overhang: str = ""

    def prompted(self, text: str, *, shots: bool = False) -> Transcript:
        """Append trusted text. It must begin with the overhang of the reply before it, if there is one."""
        if not text.startswith(self.overhang):
            raise ValueError(
                f"the text after a reply must begin with the stop characters its tokens already hold: "
                f"{self.overhang!r} is not the start of {text[:40]!r}"
            )
        return self._append(Segment(Source.PROMPT, text[len(self.overhang) :], shots=shots))

    def quoted(self, text: str, *, shots: bool = False) -> Transcript:
        """Append untrusted text that is not a tool's: a question, or words from another transcript."""
        return self._untrusted(Source.QUOTE, text, shots)

    def observed(self, text: str, *, shots: bool = False) -> Transcript:
        """Append a tool's untrusted text."""
        return self._untrusted(Source.TOOL, text, shots)

    def said(self, reply: Generated, candidate: int | None = None) -> Transcript:
        """Append what the model said, exactly as sampled: the reply's chosen candidate unless another is named."""
        spoken = reply.candidates[reply.chosen if candidate is None else candidate]
        return replace(self._append(segment_of(spoken)), overhang=spoken.overhang)

    @property
    def text(self) -> str:
        """All segments' text, for people; tokens are never made from it."""
        return "".join(segment.text for segment in self.segments)

    def _untrusted(self, source: Source, text: str, shots: bool) -> Transcript:
        if self.overhang:
            raise ValueError("trusted text must follow a reply before untrusted text may")
        return self._append(Segment(source, text, shots=shots))

    def _append(self, segment: Segment) -> Transcript:
        return Transcript((*self.segments, segment) if segment.text or segment.ids else self.segments)


def segment_of(candidate: Candidate) -> Segment:
    """The segment that a candidate becomes once it is part of a transcript (its text with the overhang)."""
    source = Source.MODEL if candidate.logprobs is not None else Source.IMPORTED
    return Segment(source, candidate.text + candidate.overhang, candidate.ids, candidate.logprobs)
