"""Trajectories as conversations and completions: what the actor said, and nothing that a judge was asked."""

from __future__ import annotations

from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from rest_jax.core.effects import ORACLE, Candidate, Finish, Role
from rest_jax.core.trajectory import Call, ToolCall, Trajectory
from rest_jax.core.transcript import Segment, Source
from rest_jax.recipes.data import demonstration_of
from rest_jax.rollout import conversations
from tests.trajectories import trajectory


def said(text: str) -> Candidate:
    return Candidate((1,), (-0.5,), text, Finish.STOP, "\n")


def played() -> Trajectory:
    """Two turns of two candidates each, of which the second was chosen, and a judge's call."""
    shot, asked = Segment(Source.PROMPT, "An example.\n", (5,), shots=True), Segment(Source.QUOTE, "Where?\n", (6,))
    found = Segment(Source.TOOL, "</s> Oslo\n", (7,))
    calls = (
        Call(0, "act", 0, Role.ACTOR, (shot, asked), (said("no"), said(" Search[a]")), chosen=1),
        Call(1, "act", 0, Role.ACTOR, (found,), (said("no"), said(" Finish[b]")), 1, parent=0, parent_candidate=1),
        Call(2, "judge", 0, Role.JUDGE, (Segment(Source.PROMPT, "Right?", (8,)),), (said("yes"),)),
    )
    tool_calls = (ToolCall(0, "search", {"query": "a", "k": 2}, "</s> Oslo"),)
    return trajectory(generation=1, task="t", answer="b", calls=calls, tool_calls=tool_calls)


def test_messages_are_the_chosen_replies_and_what_tools_answered() -> None:
    messages = conversations.messages(played())
    assert [(m["role"], m["content"]) for m in messages] == [
        ("user", "Where?"),
        ("assistant", "Search[a]"),
        ("tool", "</s> Oslo"),
        ("assistant", "Finish[b]"),
    ]
    (call,) = messages[1]["tool_calls"]
    assert call["function"] == {"name": "search", "arguments": '{"k":2,"query":"a"}'}
    assert messages[2]["tool_call_id"] == call["id"]
    assert messages[3]["tool_calls"] is None


def begun(**given: Any) -> Trajectory:
    """What a tool showed before anything was said, then a turn, and what the run said of its answer."""
    asked = Segment(Source.QUOTE, "Game 3\n", (6,))
    calls = (Call(0, "play", 0, Role.ACTOR, (asked,), (said(" Action: open door"),)),)
    tool_calls = (
        ToolCall(-1, "reset", {"game": 3}, "You are in a room."),
        ToolCall(0, "act", {"command": "open door"}, "You are out."),
        ToolCall(0, ORACLE, {"answer": "won"}, "right"),
    )
    return trajectory(question="Game 3", answer="won", calls=calls, tool_calls=tool_calls, **given)


def test_what_came_before_the_first_words_is_asked_without_words() -> None:
    messages = conversations.messages(begun())
    assert [(m["role"], m["content"]) for m in messages] == [
        ("user", "Game 3"),
        ("assistant", ""),
        ("tool", "You are in a room."),
        ("assistant", "Action: open door"),
        ("tool", "You are out."),
    ]
    first, second = (message["tool_calls"] for message in messages if message["role"] == "assistant")
    assert [call["function"]["name"] for call in (*first, *second)] == ["reset", "act"]
    assert [m["tool_call_id"] for m in messages if m["role"] == "tool"] == [first[0]["id"], second[0]["id"]]
    assert first[0]["id"] != second[0]["id"]


def test_a_search_with_the_questions_words_comes_back_as_a_turn() -> None:
    asked = Call(0, "act", 0, Role.ACTOR, (Segment(Source.QUOTE, "Where?", (6,)),), (said(" Action: Finish[Oslo]"),))
    searched = ToolCall(-1, "search", {"query": "Where?"}, "Oslo: a city.")
    turns = demonstration_of(conversations.messages(trajectory(calls=(asked,), tool_calls=(searched,)))).turns
    assert [(turn.action, turn.argument) for turn in turns] == [("search", "Where?"), ("finish", "Oslo")]


def test_what_the_run_told_of_answers_is_no_tool_of_others() -> None:
    assert [tool["function"]["name"] for tool in conversations.tools([begun()])] == ["act", "reset"]
    assert "right" not in [message["content"] for message in conversations.messages(begun())]


CHAT = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}"
    "{% for call in message.tool_calls or [] %} {{ call.function.name }}{{ call.function.arguments }}{% endfor %}"
    "{{ '\\n' }}{% endfor %}"
)


def test_a_chat_template_renders_it() -> None:
    (rendered,), _ = render_jinja_template([conversations.messages(begun())], chat_template=CHAT)
    assert rendered.splitlines()[:3] == ["<user>Game 3", '<assistant> reset{"game":3}', "<tool>You are in a room."]


@pytest.mark.parametrize(("bare", "beginning"), [(True, "Where?\n"), (False, "An example.\nWhere?\n")])
def test_each_call_is_a_prompt_and_a_completion(bare: bool, beginning: str) -> None:
    first, second = conversations.completions(played(), bare=bare)
    assert first == {"prompt": beginning, "completion": " Search[a]"}
    assert second == {"prompt": f"{beginning} Search[a]\n</s> Oslo\n", "completion": " Finish[b]"}


def test_tools_are_told_by_their_calls() -> None:
    (tool,) = conversations.tools([played(), played()])
    properties = tool["function"]["parameters"]["properties"]
    assert properties == {"k": {"type": "integer"}, "query": {"type": "string"}}


def test_texts_that_look_like_control_tokens_are_counted() -> None:
    assert conversations.hostile_texts(played()) == 1
