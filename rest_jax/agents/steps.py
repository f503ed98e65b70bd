"""Steps beside a method's own: what they are for, and their worked examples, read from YAML.

It tells stories, each a question and labelled lines, and says which of them each step shows: `[story, n]` is an example
in which the story's first n lines are told, and the next ones that have the step's cue are said. What has several lines
is a block: its label, its fence, and what stands in it (`agents/prompt.py`). `asking` is the questions' label, where it
is not `Question:`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import dropwhile
from typing import Any

import yaml

from rest_jax.agents.prompt import NEW_LINE, OBSERVATION, QUESTION, Line, Prompt, Shot, Told, opens_block
from rest_jax.core.chat import ChatFormat


def steps_of(words: str, shots: int, chat: ChatFormat | None) -> dict[str, Prompt]:
    """The prompts of the steps that these words tell of, each with at most so many of its worked examples."""
    written = yaml.safe_load(words)

    def prompt(step: Mapping[str, Any]) -> Prompt:
        shown = (_shot(written["stories"][story], told, step["cue"]) for story, told in step["shown"][:shots])
        return Prompt(step["cue"], step["task"], tuple(shown), chat, asking=written.get("asking", QUESTION))

    return {name: prompt(step) for name, step in written["steps"].items()}


def _shot(story: Mapping[str, Any], told: int, cue: str) -> Shot:
    lines = [_labelled(line) for line in story["lines"]]
    return Shot(story["question"], _said(lines[told:], cue), lines[:told])


def _said(lines: Sequence[Told], cue: str) -> tuple[Line, ...]:
    """The turns of a step, each with what it was shown; what another step says after them is left out."""
    said: list[Line] = []
    for label, words in dropwhile(lambda line: line[0] != cue, lines):
        if label == cue:
            said.append(Line(words if opens_block(cue) else f" {words}"))
        elif label == OBSERVATION:
            said[-1] = replace(said[-1], observation=words)
        else:
            break
    return tuple(said)


def _labelled(line: str) -> Told:
    if NEW_LINE in line:
        label, fence, words = line.split(NEW_LINE, 2)
        return f"{label}{NEW_LINE}{fence}{NEW_LINE}", words
    label, _, words = line.partition(": ")
    return f"{label}:", words
