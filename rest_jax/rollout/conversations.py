"""Trajectories as other programs read them: chat messages with tool calls, or prompts and completions.

Both are text alone: tokens are made anew by whoever trains on them. What a tool or a model wrote is a string in its
place, whatever it looks like; a program that renders it into one string has to encode it as untrusted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from rest_jax.core.canonical import canonical_json
from rest_jax.core.effects import ORACLE, Role
from rest_jax.core.trajectory import Call, ToolCall, Trajectory, context_of
from rest_jax.core.transcript import Source

Message = dict[str, Any]

CONTROL = re.compile(r"<\|[^|<>\n]{1,40}\|>|</?s>|<(?:start|end)_of_turn>|\[/?INST\]")
"""What common tokenizers read as a control token where they are not told that text is untrusted."""
TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}


def messages(trajectory: Trajectory) -> list[Message]:
    """The conversation: the question, then what the actor said and what its tools answered, in order.

    An assistant's content is all that it said, action included; the calls that were made of it stand in `tool_calls`
    (arguments as JSON text). Calls before anything was said, as a game's `reset`, are those of an assistant's message
    without words. A method that opens several transcripts appears as the sequence of its chosen replies.
    """
    calls = [(f"call_{place}", call) for place, call in enumerate(_called(trajectory))]
    spoken = [(call.index, call.candidates[call.chosen].text.strip()) for call in _spoken(trajectory)]
    said = [_message("user", trajectory.question)]
    for index, words in [(-1, ""), *spoken]:
        made = [(id, call) for id, call in calls if call.after == index]
        if made or index >= 0:
            said.append(_message("assistant", words, tool_calls=[_request(id, call) for id, call in made] or None))
        said += [_message("tool", call.content, tool_call_id=id, name=call.tool) for id, call in made]
    return said


def tools(trajectories: Iterable[Trajectory]) -> list[dict[str, Any]]:
    """OpenAI's `tools` array of all that was called, as far as the calls tell: names, arguments, types."""
    arguments: dict[str, dict[str, str]] = {}
    for call in (call for trajectory in trajectories for call in _called(trajectory)):
        known = arguments.setdefault(call.tool, {})
        known.update({name: TYPES.get(type(value), "string") for name, value in call.arguments.items()})
    return [_function(name, arguments[name]) for name in sorted(arguments)]


def completions(trajectory: Trajectory, *, bare: bool) -> list[dict[str, str]]:
    """A prompt and a completion for each of the actor's calls (ReST meets ReAct, section 3.3); `bare` leaves out
    worked examples."""
    return [
        {
            "prompt": "".join(
                segment.text for segment in context_of(trajectory.calls, call.index) if not (bare and segment.shots)
            ),
            "completion": call.candidates[call.chosen].text,
        }
        for call in _spoken(trajectory)
    ]


def hostile_texts(trajectory: Trajectory) -> int:
    """How many of its tools' texts hold what a careless tokenizer would take for a control token."""
    shown = [segment.text for call in trajectory.calls for segment in call.segments if segment.source is Source.TOOL]
    return sum(CONTROL.search(text) is not None for text in shown)


def _spoken(trajectory: Trajectory) -> list[Call]:
    return [call for call in trajectory.calls if call.role is not Role.JUDGE]


def _called(trajectory: Trajectory) -> list[ToolCall]:
    """Calls of tools that others have, too: not what the run told a method of its answers."""
    return [call for call in trajectory.tool_calls if call.tool != ORACLE]


def _request(id: str, call: ToolCall) -> dict[str, Any]:
    function = {"name": call.tool, "arguments": canonical_json(call.arguments)}
    return {"id": id, "type": "function", "function": function}


def _message(role: str, content: str, **more: Any) -> Message:
    return {"role": role, "content": content, "tool_calls": None, "tool_call_id": None, "name": None, **more}


def _function(name: str, arguments: Mapping[str, str]) -> dict[str, Any]:
    properties = {argument: {"type": kind} for argument, kind in sorted(arguments.items())}
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "description": "", "parameters": parameters}}
