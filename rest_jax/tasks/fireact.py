"""FireAct's trajectories (Chen et al. 2023) as demonstrations without observations."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from rest_jax.core.answers import normalise
from rest_jax.core.demonstration import Demonstration, Turn
from rest_jax.tasks.files import read_jsonl
from rest_jax.tasks.imported import demonstration

TURN = re.compile(r"Thought: (?P<thought>[^\n]*)\nAction: (?P<action>search|lookup|finish)\[(?P<argument>[^\n]*)\]\s*")


def read_fireact(path: Path, held_out: Collection[str]) -> tuple[tuple[Demonstration, ...], dict[str, int]]:
    """The demonstrations of a file of `{"messages": [{"role", "content"}, …]}`, each named by the sha256 of what it
    says (one that comes twice counts once), and how many were dropped and why.

    The first message is the question. Observations are left out, for they came from a web search: the searches have
    to be executed again. So is the closing "Episode finished", which is no observation. FireAct kept successful
    trajectories alone, so the answer of `finish` is the question's. Dropped are those whose normalised question is in
    `held_out`, and those that are not thoughts and actions ending in `finish`.
    """
    demonstrations: dict[str, Demonstration] = {}
    dropped = {"held_out_question": 0, "malformed": 0}
    for row in read_jsonl(path, {"messages": list}, "trajectory"):
        try:
            found = _demonstration(row["messages"])
        except ValueError:
            dropped["malformed"] += 1
            continue
        if normalise(found.question.text) in held_out:
            dropped["held_out_question"] += 1
        else:
            demonstrations[found.question.id] = found
    return tuple(demonstrations.values()), dropped


def _demonstration(messages: Sequence[Any]) -> Demonstration:
    if not all(isinstance(message, dict) and isinstance(message.get("content"), str) for message in messages):
        raise ValueError("a message without content")
    said = [TURN.fullmatch(message["content"]) for message in messages if message.get("role") == "assistant"]
    turns = [
        Turn(turn["thought"].strip(), cast(Literal["search", "lookup", "finish"], turn["action"]), turn["argument"])
        for turn in said
        if turn is not None
    ]
    if len(turns) < len(said):
        raise ValueError("a message that is no thought and action")
    return demonstration(messages[0]["content"], turns, source="fireact")
