"""What the search agent and its model say to one another: the classes of its prompts (Aksitov et al. 2023, A.1).

A class's name and fields are those that stand in the prompts, in their order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

NOT_BLANK = "not blank"
Words = Annotated[str, NOT_BLANK]
"""Text that has to say something."""

_CITATION = re.compile(r" ?\[link_id=\d{1,9}(?:, ?(?:link_id=)?\d{1,9})*\]")


class Step(StrEnum):
    """The five kinds of calls, as they are stored."""

    DECIDE = "decide"
    SUMMARISE = "summarise"
    DRAFT = "draft"
    CHECK_RELEVANCE = "check_relevance"
    CHECK_GROUNDING = "check_grounding"


CHECKS = (Step.CHECK_RELEVANCE, Step.CHECK_GROUNDING)


@dataclass(frozen=True)
class ResultItem:
    """A passage that a search found; its id is unique in its trajectory."""

    link_id: int
    link_text: str
    snippet: str


@dataclass(frozen=True)
class SearchResult:
    links: tuple[ResultItem, ...]


@dataclass(frozen=True)
class Search:
    query: Words
    thoughts: str | None = None
    """None where an `ActionWrapper` holds them."""


@dataclass(frozen=True)
class Terminate:
    thoughts: str | None = None


@dataclass(frozen=True)
class SelectLink:
    """What is left of a search: the other links are forgotten."""

    selected_links: tuple[ResultItem, ...]
    grounded_summarization: str
    thoughts: str


@dataclass(frozen=True)
class Answer:
    thoughts: str
    answer: Words


Action = Search | SelectLink | Terminate | Answer


@dataclass(frozen=True)
class ActionWrapper:
    thoughts: str
    action: Search | Terminate


@dataclass(frozen=True)
class LinkSelection:
    grounded_summarization: str
    thoughts: str
    selected_link_ids: tuple[int, ...]


@dataclass(frozen=True)
class Check_Answer:
    passed: bool


@dataclass(frozen=True)
class Revise_Answer:
    revised_answer: Words


def plain(answer: str) -> str:
    """An answer without its citations, `[link_id=N]`, as a task's metric compares it."""
    return _CITATION.sub("", answer).strip()


def cited(answer: str) -> frozenset[int]:
    """The link ids that an answer names."""
    return frozenset(int(id) for citation in _CITATION.findall(answer) for id in re.findall(r"\d+", citation))
