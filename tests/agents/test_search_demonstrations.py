"""Demonstrations as the search agent's steps: what the author says in front of each prompt."""

from __future__ import annotations

import pytest
from search_world import PROMPT

from rest_jax.agents.registry import agent
from rest_jax.agents.search_agent.prompt import View
from rest_jax.agents.search_agent.replies import read_reply
from rest_jax.agents.search_agent.values import (
    ActionWrapper,
    Answer,
    Check_Answer,
    LinkSelection,
    ResultItem,
    Search,
    SelectLink,
    Step,
    Terminate,
)
from rest_jax.config.settings import AgentSettings
from rest_jax.core.demonstration import Demonstration, Turn
from rest_jax.core.effects import Sampling
from rest_jax.core.keys import KeyPath
from rest_jax.core.policy import Request
from rest_jax.core.trajectory import Question

QUESTION = Question("q1", "Where was the founder of Vell born?", "Sarn")
TURNS = (
    Turn("I need Vell.", "search", "Vell", "Vell: By Orr."),
    Turn("I look closer.", "lookup", "founder", "(Result 1 / 1) By Orr."),
    Turn("Orr did. I need Orr.", "search", "Ada Orr: builder", "Ada Orr: builder: Born in Sarn."),
    Turn("She was born in Sarn.", "finish", "Sarn"),
)
ITEMS = (ResultItem(4, "Ada", "x"), ResultItem(5, "Ada Orr: builder", "Born in Sarn."), ResultItem(6, "A # [END]", ""))
FIRST = (Search("Vell", "t"), SelectLink((ResultItem(2, "Vell", "By Orr."),), "s", "t"))
BOTH = (*FIRST, Search("Ada Orr", "t"), SelectLink((ITEMS[1],), "s", "t"))
METHOD = agent("search_agent")
REQUEST = Request(1, 1, (), KeyPath(0, 0, "q1", 0, 0, 3, 0), 32, (), Sampling())


def says(step, view, turns=TURNS, prompt=PROMPT):
    write = METHOD.author([Demonstration(QUESTION, turns)], prompt)
    text, ends = write(prompt.open(step, view).text, REQUEST)
    assert ends
    return text


@pytest.mark.parametrize("prompt", [PROMPT, METHOD.prompt_for(AgentSettings(name="search_agent", shots=9))])
@pytest.mark.parametrize(
    ("step", "view", "said"),
    [
        (Step.DECIDE, View("?", (), 3), ActionWrapper("I need Vell.", Search("Vell"))),
        (Step.DECIDE, View("?", FIRST, 2), ActionWrapper("Orr did. I need Orr.", Search("Ada Orr: builder"))),
        (Step.DECIDE, View("?", BOTH, 1), ActionWrapper("She was born in Sarn.", Terminate())),
        (
            Step.SUMMARISE,
            View("?", (*FIRST, Search("Ada Orr", "t")), results=ITEMS),
            LinkSelection("According to [link_id=5]: She was born in Sarn.", "Orr did. I need Orr.", (5,)),
        ),
        (
            Step.SUMMARISE,
            View("?", (Search("Vell", "t"),), results=()),
            LinkSelection("Nothing is selected.", "I need Vell.", ()),
        ),
        (Step.DRAFT, View("?", BOTH), Answer("She was born in Sarn.", "Sarn [link_id=5]")),
        (Step.DRAFT, View("?"), Answer("She was born in Sarn.", "Sarn")),
        (Step.CHECK_RELEVANCE, View("?", BOTH, answer="Sarn"), Check_Answer(True)),
        (Step.CHECK_GROUNDING, View("?", BOTH, answer="Sarn"), Check_Answer(True)),
    ],
)
def test_an_author_says_what_was_demonstrated(prompt, step, view, said):
    assert read_reply(step, says(step, view, prompt=prompt), ITEMS) == said


def test_of_links_that_were_not_demonstrated_the_first_is_selected():
    turns = (Turn("I search.", "search", "Somebody"), TURNS[-1])
    text = says(Step.SUMMARISE, View("?", (Search("Somebody", "t"),), results=ITEMS), turns)
    said = read_reply(Step.SUMMARISE, text, ITEMS)
    assert said == LinkSelection("According to [link_id=4]: She was born in Sarn.", "I search.", (4,))
    assert text.startswith(
        "# [link_id=4] is about Ada. Selected.\n# [link_id=5] is about Ada Orr: builder. Not selected."
    )
    assert "# [link_id=6] is about A [END]. Not selected.\n" in text
