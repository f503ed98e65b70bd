"""ReAct's two tools over a local corpus: search[entity] and lookup[string] (Yao et al. 2023, section 3.1)."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rest_jax.core.effects import NO_MORE, NOT_FOUND, ToolErrorKind, ToolReply
from rest_jax.tools.registry import Schema, Tool, ToolFailure
from rest_jax.tools.search.corpus import Corpus, Passage
from rest_jax.tools.search.index import Index, IndexSettings, index_of, top
from rest_jax.tools.search.text import normalise, sentences

PASSAGE_CHARS = 8_000
"""The most characters that a reply shows of one passage's text."""

SIMILAR_TITLES = 5

_SEARCH: Schema = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "description": "What to search for.", "minLength": 1, "maxLength": 2_000},
        "k": {"type": "integer", "description": "How many passages to return.", "minimum": 1, "maximum": 50},
    },
    "required": ["query"],
    "additionalProperties": False,
}

_LOOKUP: Schema = {
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
    """A passage found, with its BM25 score (0 for an exact title without a searchable word)."""

    id: int
    """The passage's position in its corpus."""
    passage: Passage
    score: float


class Searcher:
    """Finds passages of a corpus. Safe to use from several threads."""

    def __init__(self, corpus: Corpus, settings: IndexSettings) -> None:
        self.index: Index = index_of(corpus, settings)
        self._passages = corpus.passages
        self._exact_title_first = settings.exact_title_first
        self._ids_by_title: dict[str, list[int]] = {}
        for id, passage in enumerate(corpus.passages):
            self._ids_by_title.setdefault(normalise(passage.title), []).append(id)
        self._titles = sorted(self._ids_by_title)
        self.about = {
            "corpus": corpus.digest,
            "passages": len(corpus.passages),
            "index": self.index.digest,
            **settings.described(),
        }
        """Digests and settings: all that decides a search's ranks."""

    def search(self, query: str, k: int) -> list[Hit]:
        """The k best passages, ordered by (exact title, −score, passage id); fewer when fewer match."""
        scores_n = self.index.scores(query)
        exact = self._ids_by_title.get(normalise(query), []) if self._exact_title_first else []
        ranked = [id for id in top(scores_n, k + len(exact)).tolist() if id not in exact]
        ids = sorted(exact, key=lambda id: (-scores_n[id], id)) + ranked
        return [Hit(id, self._passages[id], float(scores_n[id])) for id in ids[:k]]

    def titled(self, title: str) -> list[Passage]:
        """The passages of this title (normalised), in the corpus's order."""
        return [self._passages[id] for id in self._ids_by_title.get(normalise(title), [])]

    def similar_titles(self, query: str) -> list[str]:
        """The titles that stand nearest to the query in alphabetical order."""
        place = bisect_left(self._titles, normalise(query))
        start = max(0, min(place - SIMILAR_TITLES // 2, len(self._titles) - SIMILAR_TITLES))
        near = self._titles[start : start + SIMILAR_TITLES]
        return [self._passages[self._ids_by_title[title][0]].title for title in near]


def search_tools(searcher: Searcher, results: int) -> tuple[Tool, ...]:
    """`search` and `lookup` over one corpus. Both are deterministic and stateless.

    search  {"query", "k"?: `results` unless given} → content "Title: text", a passage a line;
            data {"results": [{"id", "title", "text", "score"}]}.
            Nothing found: content "Could not find QUERY. Similar: [title, …]."
    lookup  {"title", "keyword", "index"?: 0} → content "(Result i / n) sentence" for the sentence number `index`
            (from 0) of the passages of that title that contains the keyword, or "No more results.";
            data {"index", "count"}. The caller remembers how often it looked a keyword up.
    """

    async def search(arguments: Mapping[str, Any], _: str) -> ToolReply:
        hits = await asyncio.to_thread(searcher.search, arguments["query"], arguments.get("k", results))
        return _found(hits) if hits else _not_found(searcher, arguments["query"])

    async def lookup(arguments: Mapping[str, Any], _: str) -> ToolReply:
        return _looked_up(searcher, arguments["title"], arguments["keyword"], arguments.get("index", 0))

    version = f"1+{searcher.index.digest[:12]}.{results}"
    about = {**searcher.about, "results": results}
    return (
        Tool("search", version, "Search the corpus for passages about something.", _SEARCH, search, about=about),
        Tool("lookup", version, "Find the next sentence with a keyword in a passage.", _LOOKUP, lookup, about=about),
    )


def _found(hits: list[Hit]) -> ToolReply:
    results = [
        {
            "id": str(hit.id),
            "title": hit.passage.title,
            "text": hit.passage.text[:PASSAGE_CHARS],
            "score": hit.score,
        }
        for hit in hits
    ]
    return ToolReply(
        content="\n".join(f"{result['title']}: {result['text']}" for result in results), data={"results": results}
    )


def _not_found(searcher: Searcher, query: str) -> ToolReply:
    similar = ", ".join(searcher.similar_titles(query))
    return ToolReply(content=f"{NOT_FOUND} {query}. Similar: [{similar}].", data={"results": []})


def _looked_up(searcher: Searcher, title: str, keyword: str, index: int) -> ToolReply:
    passages = searcher.titled(title)
    if not passages:
        raise ToolFailure(ToolErrorKind.BAD_ARGUMENTS, f"no passage has the title {title!r}")
    wanted = normalise(keyword)
    found = [sentence for passage in passages for sentence in sentences(passage.text) if wanted in normalise(sentence)]
    data = {"index": index, "count": len(found)}
    if index >= len(found):
        return ToolReply(content=f"{NO_MORE}.", data=data)
    return ToolReply(content=f"(Result {index + 1} / {len(found)}) {found[index][:PASSAGE_CHARS]}", data=data)
