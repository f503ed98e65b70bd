"""The search agent's prompts: worked examples that the agent itself told, bare prompts, both styles."""

from __future__ import annotations

import pytest
import yaml

from rest_jax.agents.endings import Malformed
from rest_jax.agents.prompt_files import prompt_file
from rest_jax.agents.registry import agent
from rest_jax.agents.search_agent.grammar import literal
from rest_jax.agents.search_agent.prompt import END, View
from rest_jax.agents.search_agent.replies import KINDS, read_reply
from rest_jax.agents.search_agent.values import LinkSelection, ResultItem, Revise_Answer, Search, Step
from rest_jax.agents.search_agent.worked import shown, stories, tasks
from rest_jax.config.settings import AgentSettings
from rest_jax.core.answers import normalise
from rest_jax.core.chat import ChatFormat
from rest_jax.core.effects import Status
from rest_jax.core.errors import UserError
from rest_jax.tasks.worked import FOLDER, worked_examples

SHOTS = {"decide": 9, "summarise": 6, "draft": 5, "check_relevance": 6, "check_grounding": 5}
"""ReST meets ReAct, appendix A.1."""
CHAT = ChatFormat("<s>", ("<sys>", "</sys>"), ("<u>", "</u>"), ("<a>", "</a>"))
METHOD = agent("search_agent")
VIEW = View("Who?", (Search("q", "t"),), 3, (ResultItem(1, "a", "b"),), "x")


def prompt(**settings):
    return METHOD.prompt_for(AgentSettings(name="search_agent", **settings), chat=CHAT)


def test_each_step_shows_as_many_worked_examples_as_the_paper():
    for step, text in shown(99).items():
        examples = text.count("# Example ") - 1  # the last head is the question's
        assert examples == SHOTS[step] == text.count(f" {END}\n")
        assert text.endswith(f"# Example {SHOTS[step] + 1}:\n{'#' * 25}\n")


def test_every_story_is_one_that_the_agent_tells_and_ends_with_an_answer():
    for outcome, examples in stories().values():
        assert outcome.status is Status.FINISHED
        assert [one.step for one in examples][-3:] == list(Step)[2:]
        for one in examples:
            links = () if one.step is not Step.SUMMARISE else tuple(ResultItem(id, "", "") for id in range(1, 10))
            assert not isinstance(read_reply(one.step, one.said, links), Malformed)
            assert END not in one.asked + one.said


def test_the_examples_show_every_kind_of_reply():
    said = {step: [] for step in Step}
    for _, examples in stories().values():
        for one in examples:
            links = tuple(ResultItem(id, "", "") for id in range(1, 10))
            said[one.step].append(read_reply(one.step, one.said, links))
    assert all(isinstance(reply, KINDS[step]) for step, replies in said.items() for reply in replies)
    assert {len(one.selected_link_ids) for one in said[Step.SUMMARISE] if isinstance(one, LinkSelection)} == {0, 1, 2}
    for check in (Step.CHECK_RELEVANCE, Step.CHECK_GROUNDING):
        assert sum(isinstance(one, Revise_Answer) for one in said[check]) == 2
        assert shown(99)[check].count("= Revise_Answer(") == 2


def test_no_worked_example_of_a_draft_is_one_that_was_revised_later():
    drafts = shown(99)[Step.DRAFT]
    for outcome, examples in stories().values():
        draft, *verdicts = examples[-3:]
        if any("Revise_Answer" in verdict.said for verdict in verdicts):
            assert draft.said not in drafts
        assert outcome.answer


def test_fewer_shots_show_the_first_ones():
    two, nine = (prompt(shots=n).open(Step.DECIDE, VIEW).text for n in (2, 9))
    assert two.count("# Example ") == 3
    first = nine.split("# Example 3:")[0]
    assert two.startswith(first)
    assert "action=Terminate()" in two
    assert "action=Search(" in two
    assert "class Search(Action):" in prompt(shots=0).open(Step.DECIDE, VIEW).text


@pytest.mark.parametrize("style", ["base", "chat"])
@pytest.mark.parametrize("step", Step)
def test_bare_is_what_remains_without_the_shots(style, step):
    whole = prompt(style=style, shots=9).open(step, VIEW).segments
    bare = prompt(style=style, bare=True).open(step, VIEW)
    assert bare.segments == tuple(segment for segment in whole if not segment.shots)
    assert "class " not in bare.text
    assert "# Example" not in bare.text


def test_a_bare_prompt_says_which_step_it_is():
    bare = prompt(bare=True)
    opened = {step: bare.open(step, View("Who?")).text for step in Step}
    assert len(set(opened.values())) == len(Step)
    assert {step: bare.step_of(text) for step, text in opened.items()} == {step: step for step in Step}
    with pytest.raises(ValueError, match="none of the search agent's steps"):
        bare.step_of("Question: Who?")


def test_what_transcripts_begin_with():
    full = prompt(shots=2)
    assert len(full.beginnings) == len(Step)
    for step, beginning in zip(Step, full.beginnings, strict=True):
        assert full.open(step, VIEW).segments[: len(beginning)] == beginning
        assert beginning[-1].text.endswith(f"# Example 3:\n{'#' * 25}\n")
    assert prompt(bare=True).beginnings == ()


def test_it_says_of_which_questions_its_examples_are():
    few, all_of_them = prompt(shots=1), prompt(shots=9)
    assert 0 < len(few.asks) < len(all_of_them.asks) <= len(stories())
    for asks, shows in ((few.asks, few.shown), (all_of_them.asks, all_of_them.shown)):
        told = {one.question for _, calls in stories().values() for one in calls}
        assert set(asks) == {text for text in told if any(literal(text) in example for example in shows.values())}
    assert prompt(bare=True).asks == prompt(shots=0).asks == ()


def test_chat_style_asks_in_a_users_turn():
    text = prompt(style="chat", bare=True).open(Step.DRAFT, View("Who?")).text
    assert text.startswith(f'<s><u>"""{tasks()[Step.DRAFT]}"""\nORIGINAL_QUESTION: str = ')
    assert text.endswith("\nORIGINAL_QUESTION: str = 'Who?'\n</u><a>")
    with pytest.raises(UserError, match="no chat template"):
        METHOD.prompt_for(AgentSettings(name="search_agent", style="chat"))


def test_no_worked_example_stands_in_two_places():
    """Stories are the search agent's alone, the others are tasks': no question is asked by both."""
    told = [story["question"] for story in yaml.safe_load(prompt_file("search_agent", "stories.yaml")).values()]
    kinds = [file.stem for file in FOLDER.glob("*.yaml")]
    assert {"qa", "fever", "strategyqa"} <= set(kinds)
    asked = [example.question.text for kind in kinds for example in worked_examples(kind)]
    questions = list(map(normalise, [*told, *asked]))
    assert len(set(questions)) == len(questions)
