"""A corpus of one's own as tools."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rest_jax.config.limits import Positive
from rest_jax.core.errors import UserError
from rest_jax.tools.registry import Tool
from rest_jax.tools.search.corpus import read_corpus
from rest_jax.tools.search.index import IndexSettings
from rest_jax.tools.search.search import Searcher, search_tools


@dataclass(frozen=True)
class CorpusSettings:
    """`search` and `lookup` over a file of passages, by BM25."""

    path: str | None = None
    """JSONL of {"title", "text"} or {"id", "contents"}; null is the file of `--corpus`, in a run its task's corpus."""
    results: Positive = 1
    """Passages that a search shows unless it says how many."""
    index: IndexSettings = field(default_factory=IndexSettings)
    """What decides scores and ranks."""


@asynccontextmanager
async def open_corpus(settings: CorpusSettings) -> AsyncIterator[tuple[Tool, ...]]:
    """Read the corpus and build its index, or take that from the cache. Raises UserError for a malformed file."""
    if settings.path is None:
        raise UserError("a corpus without a path; write `path: FILE.jsonl`, or give --corpus FILE.jsonl")
    yield search_tools(Searcher(read_corpus(Path(settings.path)), settings.index), settings.results)
