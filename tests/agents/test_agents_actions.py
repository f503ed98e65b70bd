"""The grammar of a turn, against what models really write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rest_jax.agents.actions import Finish, Lookup, Search, action_text, parse_action
from rest_jax.agents.endings import Malformed


@pytest.mark.parametrize(
    ("text", "action"),
    [
        (" I need Vell. Action: Search[Vell]", Search("Vell")),
        (" I need Vell.\nAction: search[Vell]", Search("Vell")),
        (" x ACTION:LOOKUP [ mayor ] ", Lookup("mayor")),
        (" done. Action: Finish[1987]\n", Finish("1987")),
        (" Action:\tFinish[Old  Vell]", Finish("Old  Vell")),
        (" Action: Search[Vell [town]]", Search("Vell [town]")),
        (" Action: Search[Vell [town]", Search("Vell [town")),
        (" Action: Finish[日本 — “Ô”]", Finish("日本 — “Ô”")),
        (" Action: Finish[__import__('os').system('x')]", Finish("__import__('os').system('x')")),
    ],
)
def test_actions(text, action):
    assert parse_action(text) == action


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no action of the form"),
        (" I think it is Vell.", "no action of the form"),
        (" reaction: Search[Vell]", "no action of the form"),
        (" Action: Search Vell", "no action of the form"),
        (" Action: Eat[Vell]", "unknown action 'Eat'"),
        (" Action: Search[Vell", "never closed"),
        (" Action: Search[]", "Search with nothing"),
        (" Action: finish[  ]", "Finish with nothing"),
        (" Action: Search[Vell] Observation: Vell is a town. Action: Finish[x]", "text after the action"),
        (" Action: Finish[a] Action: Finish[b]", "text after the action"),
    ],
)
def test_malformed_turns_say_why(text, why):
    action = parse_action(text)
    assert isinstance(action, Malformed)
    assert why in action.why


@given(st.text())
def test_no_text_makes_the_parser_raise(text):
    assert isinstance(parse_action(text), Search | Lookup | Finish | Malformed)
    assert isinstance(parse_action(f"Action: Search[{text}"), Search | Malformed)


@given(
    st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="[]"), min_size=1).filter(str.strip),
    st.sampled_from([("search", Search), ("lookup", Lookup), ("finish", Finish)]),
)
def test_written_actions_are_read_back(argument, verb):
    name, kind = verb
    assert parse_action(f" A thought. {action_text(name, argument)}") == kind(argument.strip())


def test_a_megabyte_of_near_misses_is_read_in_one_pass():
    text = "action: " * 60_000 + " " * 500_000
    assert isinstance(parse_action(text), Malformed)
