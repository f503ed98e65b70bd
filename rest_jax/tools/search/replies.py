"""ReAct's two tools as an agent sees them: search[entity] and lookup[string] (Yao et al. 2023, section 3.1).

What they take and what they answer, wherever the passages come from.

search  {"query", "k"?} → content "Title: text", a passage a line;
        data {"results": [{"id", "title", "text", "score"}]}.
lookup  {"title", "keyword", "index"?: 0} → content "(Result i / n) sentence" for the sentence number `index` (from 0)
        of the passages of that title that contains the keyword, or "No more results."; data {"index", "count"}.
        The caller remembers how often it looked a keyword up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rest_jax.core.effects import NO_MORE, ToolErrorKind, ToolReply
from rest_jax.tools.registry import Schema, ToolFailure
from rest_jax.tools.search.corpus import Passage
from rest_jax.tools.search.text import normalise, sentences

PASSAGE_CHARS = 8_000
"""The most characters that a reply shows of one passage's text."""

SEARCH: Schema = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "description": "What to search for.", "minLength": 1, "maxLength": 2_000},
        "k": {"type": "integer", "description": "How many passages to return.", "minimum": 1, "maximum": 50},
    },
    "required": ["query"],
    "additionalProperties": False,
}

LOOKUP: Schema = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "description": "Title of a passage that a search returned.", "minLength": 1},
        "keyword": {"type": "string", "description": "What the sentence must contain.", "minLength": 1},
        "index": {"type": "integer", "description": "How many such sentences to pass over first.", "minimum": 0},
    },
    "required": ["title", "keyword"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Hit:
    """A passage found."""

    id: str
    """Its position in its corpus, or what a retriever calls it."""
    passage: Passage
    score: float
    """BM25's (0 for an exact title without a searchable word), or whatever a retriever ranks by."""


def found(hits: Sequence[Hit]) -> ToolReply:
    """What a search answers that found something."""
    results = [
        {"id": hit.id, "title": hit.passage.title, "text": hit.passage.text[:PASSAGE_CHARS], "score": hit.score}
        for hit in hits
    ]
    return ToolReply("\n".join(f"{one['title']}: {one['text']}" for one in results), {"results": results})


def looked_up(passages: Sequence[Passage], arguments: Mapping[str, Any]) -> ToolReply:
    """What a lookup answers, given the passages of its title. Raises ToolFailure (bad_arguments) without any."""
    if not passages:
        raise ToolFailure(ToolErrorKind.BAD_ARGUMENTS, f"no passage has the title {arguments['title']!r}")
    wanted, index = normalise(arguments["keyword"]), arguments.get("index", 0)
    hits = [sentence for passage in passages for sentence in sentences(passage.text) if wanted in normalise(sentence)]
    data = {"index": index, "count": len(hits)}
    if index >= len(hits):
        return ToolReply(f"{NO_MORE}.", data)
    return ToolReply(f"(Result {index + 1} / {len(hits)}) {hits[index][:PASSAGE_CHARS]}", data)
