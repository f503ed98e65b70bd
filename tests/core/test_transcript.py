"""Transcripts: append-only, overhang-aware, and told apart by who wrote what."""

from __future__ import annotations

import pytest

from rest_jax.core.effects import Candidate, Finish, Generated, Role
from rest_jax.core.trajectory import Call, context_of
from rest_jax.core.transcript import Segment, Source, Transcript, segment_of

REPLY = Candidate((5, 6), (-0.5, -0.25), " I look it up. Action: Search[X]", Finish.STOP, overhang="\n")


def test_the_segment_after_a_reply_omits_the_overhang() -> None:
    transcript = Transcript().prompted("Question: ").quoted("Who?").prompted("\nThought:")
    transcript = (
        transcript.said(Generated((REPLY,))).prompted("\nObservation: ").observed("text").prompted("\nThought:")
    )
    assert transcript.text == "Question: Who?\nThought: I look it up. Action: Search[X]\nObservation: text\nThought:"
    assert [s.source for s in transcript.segments] == [
        Source.PROMPT,
        Source.QUOTE,
        Source.PROMPT,
        Source.MODEL,
        Source.PROMPT,
        Source.TOOL,
        Source.PROMPT,
    ]
    assert transcript.segments[4].text == "Observation: "


def test_text_that_contradicts_the_overhang_is_refused() -> None:
    transcript = Transcript().said(Generated((REPLY,)))
    with pytest.raises(ValueError, match="must begin with the stop characters"):
        transcript.prompted("Observation: ")
    with pytest.raises(ValueError, match="trusted text must follow"):
        transcript.observed("text")


def test_transcripts_are_values() -> None:
    before = Transcript().prompted("a")
    assert before.prompted("b") != before
    assert before.text == "a"


def test_a_reply_without_logprobs_is_imported() -> None:
    spoken = Candidate((7,), None, "said by a person", Finish.EOS)
    assert segment_of(spoken).source is Source.IMPORTED
    assert segment_of(REPLY).source is Source.MODEL
    assert segment_of(REPLY).text.endswith("Search[X]\n")


def test_another_candidate_can_be_continued() -> None:
    other = Candidate((9,), (-1.0,), "other", Finish.EOS)
    reply = Generated((REPLY, other), chosen=0)
    assert Transcript().said(reply, candidate=1).text == "other"


def test_context_of_rebuilds_the_whole_transcript() -> None:
    first = Call(0, "act", 0, Role.ACTOR, (Segment(Source.PROMPT, "a", (1,)),), (REPLY,))
    second = Call(1, "act", 0, Role.ACTOR, (Segment(Source.TOOL, "b", (2,)),), (REPLY,), parent=0)
    fresh = Call(2, "check", 0, Role.ACTOR, (Segment(Source.PROMPT, "c", (3,)),), (REPLY,))
    assert [s.ids for s in context_of((first, second, fresh), 1)] == [(1,), (5, 6), (2,)]
    assert [s.ids for s in context_of((first, second, fresh), 2)] == [(3,)]
