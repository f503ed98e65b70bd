"""Demonstrations: questions answered well, turn by turn, by whoever wrote them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rest_jax.core.trajectory import Question


@dataclass(frozen=True)
class Turn:
    """One turn of a demonstration: a thought, an action, and what the tool said."""

    thought: str
    action: Literal["search", "lookup", "finish"]
    argument: str
    observation: str | None = None
    """The passage that the tool shows, `Title: text`. None for `finish`, and where the demonstration came without one:
    then the action has to be executed again."""


@dataclass(frozen=True)
class Demonstration:
    """A question answered well."""

    question: Question
    turns: tuple[Turn, ...]
