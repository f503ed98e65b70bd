"""FireAct's trajectories (Chen et al. 2023) as demonstrations without observations."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from rest_jax.core.demonstration import Demonstration, Turn
from rest_jax.core.trajectory import Question
from rest_jax.tasks.files import read_jsonl
from rest_jax.tasks.metrics import normalise

TURN = re.compile(r"Thought: (?P<thought>[^\n]*)\nAction: (?P<action>search|lookup|finish)\[(?P<argument>[^\n]*)\]\s*")


def read_fireact(path: Path, held_out: Collection[str]) -> tuple[tuple[Demonstration, ...], dict[str, int]]:
    """The demonstrations of a file of `{"messages": [{"role", "content"}, …]}`, and how many were dropped and why.

    The first message is the question. Observations are left out, for they came from a web search: the searches have
    to be executed again. So is the closing "Episode finished", which is no observation. FireAct kept successful
    trajectories alone, so the answer of `finish` is the question's. Dropped are those whose normalised question is in
    `held_out`, and those that are not thoughts and actions ending in `finish`.
    """
    demonstrations: list[Demonstration] = []
    dropped = {"held_out_question": 0, "malformed": 0}
    for number, row in enumerate(read_jsonl(path, {"messages": list}, "trajectory")):
        demonstration = _demonstration(f"fireact-{number:04d}", row["messages"])
        if demonstration is None:
            dropped["malformed"] += 1
        elif normalise(demonstration.question.text) in held_out:
            dropped["held_out_question"] += 1
        else:
            demonstrations.append(demonstration)
    return tuple(demonstrations), dropped


def _demonstration(id: str, messages: Sequence[Any]) -> Demonstration | None:
    if not all(isinstance(message, dict) and isinstance(message.get("content"), str) for message in messages):
        return None
    said = [TURN.fullmatch(message["content"]) for message in messages if message.get("role") == "assistant"]
    turns = [
        Turn(turn["thought"].strip(), cast(Literal["search", "lookup", "finish"], turn["action"]), turn["argument"])
        for turn in said
        if turn is not None
    ]
    complete = len(turns) == len(said) and [turn.action for turn in turns].count("finish") == 1
    if not complete or turns[-1].action != "finish" or not all(turn.argument.strip() for turn in turns):
        return None
    return Demonstration(Question(id, messages[0]["content"], turns[-1].argument), tuple(turns))
