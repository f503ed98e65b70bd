"""The search agent, run on recorded outcomes: every branch of the state machine, and what each step is shown."""

from __future__ import annotations

from dataclasses import replace

import pytest
from search_world import (
    DRAFT,
    GOLDEN,
    LIMITS,
    PASSED,
    QUESTION,
    STOP_SEARCHING,
    candidate,
    found,
    golden,
    play,
    revise,
    said,
    search,
    select,
)

from rest_jax.agents.search_agent.prompt import END
from rest_jax.agents.search_agent.values import (
    ActionWrapper,
    Answer,
    Check_Answer,
    LinkSelection,
    Search,
    Step,
    Terminate,
)
from rest_jax.core.effects import (
    CallTool,
    Finish,
    Generate,
    Generated,
    Status,
    ToolErrorKind,
    ToolFault,
    ToolReply,
    finished,
)

VELL = found(("Vell", "A town."))
WHOLE = [search("Vell"), VELL, select(1), STOP_SEARCHING, DRAFT, PASSED, PASSED]
REPLIES = {
    Step.DECIDE: WHOLE[:0],
    Step.SUMMARISE: WHOLE[:2],
    Step.DRAFT: WHOLE[:4],
    Step.CHECK_RELEVANCE: WHOLE[:5],
    Step.CHECK_GROUNDING: WHOLE[:6],
}
"""What comes before each step."""


def calls(asked):
    return [effect for effect in asked if isinstance(effect, Generate)]


def test_the_transcripts_are_the_golden_ones():
    assert golden() == GOLDEN.read_text(encoding="utf-8")


def test_a_question_takes_two_calls_a_search_and_four():
    outcome, asked = play(*WHOLE)
    assert outcome == finished("Sarn")
    assert [call.step for call in calls(asked)] == ["decide", "summarise", "decide", *list(Step)[2:]]
    assert asked[1] == CallTool("search", {"query": "Vell"})
    assert {(call.stop, call.max_tokens, call.n, call.sampling) for call in calls(asked)} == {((END,), 64, 1, None)}


def test_the_agent_may_terminate_without_a_search():
    outcome, asked = play(STOP_SEARCHING, DRAFT, PASSED, PASSED)
    assert outcome == finished("Sarn")
    assert not any(isinstance(effect, CallTool) for effect in asked)


@pytest.mark.parametrize(
    ("verdicts", "answer"),
    [
        ((PASSED, PASSED), "Sarn"),
        ((revise("Vell [link_id=1]"), PASSED), "Vell"),
        ((PASSED, revise("Vell")), "Vell"),
        ((revise("Orr"), revise("Vell")), "Vell"),
        ((said(Check_Answer(False)), said(Check_Answer(False))), "Sarn"),
    ],
)
def test_checks_keep_or_revise_the_answer(verdicts, answer):
    outcome, asked = play(*WHOLE[:5], *verdicts)
    assert outcome == finished(answer)
    relevance, grounding = calls(asked)[-2:]
    assert "ANSWER: str = 'Sarn [link_id=3]'\n" in relevance.transcript.text
    seen = [line for line in grounding.transcript.text.splitlines() if line.startswith("ANSWER: ")]
    assert len(seen) == 1
    if verdicts[0] == revise("Orr"):
        assert seen == ["ANSWER: str = 'Orr'"]


def test_searches_are_counted_down_and_then_terminate_is_forced():
    some = [one for _ in range(3) for one in (search("Vell"), VELL, select())]
    outcome, asked = play(*some, DRAFT, PASSED, PASSED)
    assert outcome == finished("Sarn")
    decisions = [call.transcript.text for call in calls(asked) if call.step == "decide"]
    for left, text in zip((3, 2, 1), decisions, strict=True):
        assert f"REMAINING_SEARCHES: int = {left}\n" in text
    assert "Terminate(thoughts='No searches remain.')" in calls(asked)[-3].transcript.text


def test_links_are_numbered_through_and_only_selected_ones_are_remembered():
    two = found(("Vell", "A town."), ("Sarn", "Another."))
    _, asked = play(search("a"), two, select(2), search("b"), two, select(3, 4), STOP_SEARCHING, DRAFT, PASSED, PASSED)
    text = {call.step: call.transcript.text for call in calls(asked)}
    shown = "links=[ResultItem(link_id=3, link_text='Vell', snippet='A town.'), ResultItem(link_id=4"
    assert shown in text["summarise"]
    assert "link_id=1," not in text["draft"]
    for id in (2, 3, 4):
        assert f"ResultItem(link_id={id}," in text["draft"]


@pytest.mark.parametrize("step", Step)
@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (said("I do not know."), Status.MALFORMED),
        (said("", finish=Finish.EOS), Status.MALFORMED),
        (said(Search("Vell")), Status.MALFORMED),
        (said("ACTION_SELECTED = Answer(thoughts='I do not", finish=Finish.LENGTH), Status.TOKEN_LIMIT),
        (said("", finish=Finish.CONTEXT), Status.CONTEXT_LIMIT),
        (said("", finish=Finish.NONFINITE), Status.NONFINITE),
    ],
)
def test_a_reply_that_cannot_be_read_ends_it_at_any_step(step, reply, status):
    outcome, asked = play(*REPLIES[step], reply)
    assert (outcome.status, outcome.answer) == (status, None)
    assert calls(asked)[-1].step == step
    if status in (Status.MALFORMED, Status.TOKEN_LIMIT):
        assert f"{step}: " in outcome.why


@pytest.mark.parametrize("step", Step)
@pytest.mark.parametrize("finish", [Finish.CONTEXT, Finish.NONFINITE])
def test_a_reply_that_was_broken_off_is_not_read(step, finish):
    (whole,) = WHOLE[len(REPLIES[step])].candidates
    outcome, _ = play(*REPLIES[step], Generated((replace(whole, finish=finish),)))
    assert outcome.answer is None
    assert outcome.status in (Status.CONTEXT_LIMIT, Status.NONFINITE)


def test_a_link_that_was_not_found_cannot_be_selected():
    outcome, _ = play(search("Vell"), VELL, select(2))
    assert (outcome.status, outcome.why) == (Status.MALFORMED, "summarise: link 2 is not among the results")


def test_a_failing_infrastructure_ends_it_masked():
    fault = ToolFault(ToolErrorKind.TIMEOUT, "no reply within 20 s")
    outcome, _ = play(search("Vell"), ToolReply("", fault=fault))
    assert (outcome.status, outcome.why) == (Status.TOOL_FAILURE, "no reply within 20 s")


@pytest.mark.parametrize(
    "reply",
    [
        ToolReply("", fault=ToolFault(ToolErrorKind.BAD_ARGUMENTS, "the query is too long")),
        ToolReply("Could not find Vell. Similar: [].", {"results": []}),
        ToolReply("Could not find Vell."),
        ToolReply(""),
        ToolReply("", {"results": [None, "Vell", 7, {}, {"title": None, "text": 3}, {"title": " ", "text": "\n"}]}),
    ],
)
def test_where_a_search_found_nothing_there_is_nothing_to_select(reply):
    outcome, asked = play(search("Vell"), reply, select(), *WHOLE[3:])
    assert outcome == finished("Sarn")
    assert "CURRENT_SEARCH_RESULTS = SearchResult(links=[])\n" in calls(asked)[1].transcript.text


@pytest.mark.parametrize(
    ("reply", "links"),
    [
        (
            ToolReply("", {"results": [{"title": "Vell", "url": "http://v", "snippet": "A\n town."}, {"text": "x"}]}),
            "[ResultItem(link_id=1, link_text='Vell', snippet='A town.'), "
            "ResultItem(link_id=2, link_text='', snippet='x')]",
        ),
        (ToolReply("A town."), "[ResultItem(link_id=1, link_text='', snippet='A town.')]"),
        (ToolReply("A town.", {"results": "?"}), "[ResultItem(link_id=1, link_text='', snippet='A town.')]"),
        (
            found(("word " * 20, "word " * 20)),
            f"[ResultItem(link_id=1, link_text='{'word ' * 10}…', snippet='{'word ' * 10}…')]",
        ),
    ],
)
def test_links_of_whatever_a_search_says(reply, links):
    _, asked = play(search("Vell"), reply, select(1), *WHOLE[3:])
    assert f"CURRENT_SEARCH_RESULTS = SearchResult(links={links})\n" in calls(asked)[1].transcript.text


def rule_of(step):
    """How the agent chooses at a step."""
    _, asked = play(*REPLIES[step], said("x"))
    return asked[-1].choose


def decision(query, logprob):
    return candidate(ActionWrapper("", Search(query)), logprob=logprob)


def test_the_lowest_perplexity_wins_among_the_candidates_that_can_be_read():
    garbled = candidate("Search for Vell!", logprob=-0.1)
    four = (decision("a", -3.0), garbled, decision("b", -1.0), decision("c", -1.0))
    assert rule_of(Step.DECIDE)(four) == 2
    _, asked = play(Generated(four), ToolReply(""), said("x"), limits=replace(LIMITS, candidates=4))
    assert (asked[0].n, asked[1]) == (4, CallTool("search", {"query": "b"}))


@pytest.mark.parametrize("finish", [Finish.CONTEXT, Finish.NONFINITE])
def test_a_candidate_that_was_broken_off_is_not_chosen(finish):
    broken = replace(decision("b", -0.1), finish=finish)
    assert rule_of(Step.DECIDE)((decision("a", -3.0), broken)) == 0


def test_a_candidate_that_selects_what_was_not_found_is_not_chosen():
    unknown, known = (candidate(LinkSelection("s", "t", (id,)), logprob=-id) for id in (0, 1))
    assert rule_of(Step.SUMMARISE)((unknown, known)) == 1


def test_where_none_can_be_read_the_lowest_perplexity_is_what_was_said():
    one, other = candidate("# One", logprob=-2.0), candidate("# Other )", logprob=-1.0)
    assert rule_of(Step.DECIDE)((one, other)) == 1
    assert play(Generated((one, other)))[0].status is Status.MALFORMED


def test_every_step_can_be_read_again_from_what_it_wrote():
    """A decision's thoughts stand in the past that later steps are shown."""
    thought = said(ActionWrapper("I think, therefore.", Terminate()))
    _, asked = play(thought, said(Answer("Because.", "Sarn")), PASSED, PASSED)
    assert "    Terminate(thoughts='I think, therefore.'),\n" in asked[1].transcript.text
    assert "    Answer(thoughts='Because.', answer='Sarn'),\n" in asked[2].transcript.text
    assert QUESTION.text.replace("'", "\\'") in asked[0].transcript.text
