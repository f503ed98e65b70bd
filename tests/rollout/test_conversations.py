"""Trajectories as conversations and completions: what the actor said, and nothing that a judge was asked."""

from __future__ import annotations

import pytest

from rest_jax.core.effects import Candidate, Finish, Role
from rest_jax.core.trajectory import Call, ToolCall, Trajectory
from rest_jax.core.transcript import Segment, Source
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
