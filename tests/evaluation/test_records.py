"""One trajectory, judged: by its task's metric, and by what it has seen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rest_jax.agents.search_agent.grammar import literal
from rest_jax.core.effects import Candidate, Finish, Role, Status, ToolErrorKind, ToolFault
from rest_jax.core.trajectory import Call, Question, ToolCall, Trajectory
from rest_jax.core.transcript import Segment, Source
from rest_jax.evaluation.records import is_grounded, judge, record
from rest_jax.tasks.metrics import Score, score_answer
from tests.trajectories import trajectory

QUESTION = Question("q", "Where?", "The Old Town")


def score(answer: str | None, question: Question) -> Score:
    return score_answer(answer, question.answer)


def seen(*segments: Segment, answer: str | None = "old town", status: Status = Status.FINISHED) -> Trajectory:
    call = Call(0, "act", 0, Role.ACTOR, segments, (Candidate((1, 2), (-0.1, -0.2), "text", Finish.EOS),))
    tool_calls = (ToolCall(-1, "search", {}, "x"), ToolCall(0, "lookup", {}, "y"))
    return trajectory(seed=3, status=status, answer=answer, calls=(call,), tool_calls=tool_calls)


@pytest.mark.parametrize(
    ("segment", "grounded"),
    [
        (Segment(Source.TOOL, "It lies in the Old Town.", (1,)), True),
        (Segment(Source.TOOL, "It lies in Oldtown.", (1,)), False),
        (Segment(Source.TOOL, "Threshold townhouse", (1,)), False),
        (Segment(Source.TOOL, "It lies in the Old Town.", (1,), shots=True), False),
        (Segment(Source.PROMPT, "It lies in the Old Town.", (1,)), False),
    ],
)
def test_grounded_means_seen_in_an_observation_of_its_own(segment: Segment, grounded: bool) -> None:
    assert is_grounded(seen(segment)) is grounded


@pytest.mark.parametrize(
    ("text", "answer"),
    [("C# 7 came in 2017.", "C# 7"), ("Ada Orr\xad, of Sarn", "ada orr\xad"), ("O'Sarn\u200b x", "osarn\u200b")],
)
def test_what_was_shown_as_a_literal_is_read_as_it_was_meant(text: str, answer: str) -> None:
    """The search agent's observations are Python string literals, in which some characters are escaped."""
    assert literal(text) != f"'{text}'"
    assert is_grounded(seen(Segment(Source.TOOL, literal(text), (1,)), answer=answer))


@pytest.mark.parametrize(
    ("content", "fault", "grounded"),
    [
        ("Old Town: A town.", None, True),
        ("Could not find Old Town. Similar: [].", None, False),
        ("No more results.", None, False),
        ("", ToolFault(ToolErrorKind.BAD_ARGUMENTS, "no passage has the title 'Old Town'"), False),
    ],
)
def test_an_echo_of_the_query_grounds_nothing(content: str, fault: ToolFault | None, grounded: bool) -> None:
    shown = Segment(Source.TOOL, f" {content or f'Error: {fault and fault.message}'}", (1,))
    answer = "no" if "No more" in content else "old town"
    searched = replace(seen(shown, answer=answer), tool_calls=(ToolCall(-1, "search", {}, content, fault),))
    assert is_grounded(searched) is grounded
    twice = replace(searched, tool_calls=(*searched.tool_calls, ToolCall(0, "search", {}, "Sarn: A town.")))
    assert is_grounded(twice) is grounded, "what a later call found was not shown here"


def test_a_right_answer_that_was_never_seen_is_not_grounded() -> None:
    judged = record(seen(), QUESTION, score)
    assert (judged.em, judged.grounded, judged.searches, judged.model_tokens, judged.seed) == (1.0, 0.0, 1, 2, 3)


@pytest.mark.parametrize(("gold", "answer"), [("Yes.", "yes"), ("no", "yes"), ("no", None)])
def test_a_question_of_yes_or_no_says_nothing_about_grounding(gold: str, answer: str | None) -> None:
    shown = seen(Segment(Source.TOOL, "Yes, it is a town.", (1,)), answer=answer)
    assert record(shown, replace(QUESTION, answer=gold), score).grounded is None


@pytest.mark.parametrize(
    ("status", "well_formed", "masked"),
    [
        (Status.FINISHED, True, False),
        (Status.STEP_LIMIT, True, False),
        (Status.MALFORMED, False, False),
        (Status.TOKEN_LIMIT, False, False),
        (Status.TOOL_FAILURE, False, True),
    ],
)
def test_endings(status: Status, well_formed: bool, masked: bool) -> None:
    judged = record(seen(answer="x" if status is Status.FINISHED else None, status=status), QUESTION, score)
    assert (judged.well_formed, judged.masked, judged.em) == (well_formed, masked, 0.0)


def test_an_empty_answer_is_grounded_in_nothing() -> None:
    assert not is_grounded(seen(Segment(Source.TOOL, "the a an", (1,)), answer="the"))


def test_records_come_in_the_order_of_questions_and_samples() -> None:
    trajectories = [replace(seen(), sample=sample) for sample in (2, 0, 1)]
    assert [judged.sample for judged in judge(trajectories, {"q": QUESTION}, score)] == [0, 1, 2]
