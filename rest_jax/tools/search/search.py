"""ReAct's two tools over a local corpus."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

from rest_jax.core.effects import NOT_FOUND, ToolReply
from rest_jax.tools.registry import Tool
from rest_jax.tools.search.corpus import Corpus, Passage
from rest_jax.tools.search.index import Index, IndexSettings, index_of, top
from rest_jax.tools.search.replies import LOOKUP, SEARCH, Hit, found, looked_up
from rest_jax.tools.search.text import normalise

SIMILAR_TITLES = 5


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
        return [Hit(str(id), self._passages[id], float(scores_n[id])) for id in ids[:k]]

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
    """`search` and `lookup` over one corpus, as `replies` describes them; deterministic and stateless.

    A search shows `results` passages unless it says how many. One that finds nothing answers "Could not find QUERY.
    Similar: [title, …]."
    """

    async def search(arguments: Mapping[str, Any], _: str) -> ToolReply:
        hits = await asyncio.to_thread(searcher.search, arguments["query"], arguments.get("k", results))
        return found(hits) if hits else _not_found(searcher, arguments["query"])

    async def lookup(arguments: Mapping[str, Any], _: str) -> ToolReply:
        return looked_up(searcher.titled(arguments["title"]), arguments)

    version = f"1+{searcher.index.digest[:12]}.{results}"
    about = {**searcher.about, "results": results}
    return (
        Tool("search", version, "Search the corpus for passages about something.", SEARCH, search, about=about),
        Tool("lookup", version, "Find the next sentence with a keyword in a passage.", LOOKUP, lookup, about=about),
    )


def _not_found(searcher: Searcher, query: str) -> ToolReply:
    similar = ", ".join(searcher.similar_titles(query))
    return ToolReply(content=f"{NOT_FOUND} {query}. Similar: [{similar}].", data={"results": []})
