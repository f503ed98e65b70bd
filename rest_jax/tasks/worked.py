"""Worked examples for tasks without train questions of their own: true, and in our own words."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from rest_jax.core.demonstration import Demonstration, Turn
from rest_jax.core.trajectory import Question

FOLDER = Path(__file__).parent / "examples"
ACTIONS: tuple[Literal["search", "lookup", "finish"], ...] = ("search", "lookup", "finish")


@cache
def worked_examples(kind: str) -> tuple[Demonstration, ...]:
    """The examples of one kind: `qa` (two hops), `strategyqa` (yes or no), `fever` (a claim's label), `word_problems`
    (a number) or `mathematics` (LaTeX)."""
    rows = yaml.safe_load((FOLDER / f"{kind}.yaml").read_text(encoding="utf-8"))
    return tuple(
        Demonstration(
            Question(f"example-{kind}-{number}", row["question"], row["answer"]), tuple(map(_turn, row["turns"]))
        )
        for number, row in enumerate(rows)
    )


def _turn(row: Mapping[str, Any]) -> Turn:
    for action in ACTIONS:
        if action in row:
            return Turn(row["thought"], action, row[action], row.get("shows"))
    raise ValueError(f"a turn without an action: {row}")
