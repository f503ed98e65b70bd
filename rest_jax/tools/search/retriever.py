"""Somebody else's retriever: any server that answers Search-R1's `POST /retrieve`.

    {"queries": [str], "topk": int, "return_scores": true}
    → {"result": [[{"document": {"id", "contents": "TITLE\\nTEXT"}, "score": float}, …]]}

Each call is a request of its own. Servers take several queries at once, but where the sums of a batch decide a rank,
an answer would depend on whoever asked at the same time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from rest_jax.config.limits import AboveZero, Positive, checked
from rest_jax.core.effects import NOT_FOUND, ToolReply
from rest_jax.core.http import url_conflicts
from rest_jax.core.secrets import secret
from rest_jax.core.text import valid_unicode
from rest_jax.tools.registry import Run, Schema, Tool
from rest_jax.tools.search.corpus import passage_of
from rest_jax.tools.search.replies import LOOKUP, SEARCH, Hit, found, looked_up
from rest_jax.tools.search.text import normalise
from rest_jax.tools.upstream import Request, open_upstream


@dataclass(frozen=True)
class RetrieverSettings:
    """`search` and `lookup` by a server that speaks Search-R1's protocol."""

    url: str
    """Its address, with the path: http://127.0.0.1:8000/retrieve."""
    corpus: str
    """What it serves, such as wiki-18/e5-base-v2. It stands in the tools' version, which tells caches, recordings and
    tables of one corpus from those of another: the server itself does not say."""
    results: Positive = 3
    """Passages that a search shows unless it says how many."""
    lookup_results: Positive = 20
    """Passages that a lookup asks for, to find those of its title among them."""
    timeout_s: AboveZero = 15.0
    """The most seconds that the server may take."""
    token_variable: str | None = None
    """The environment variable that holds a bearer token, where the server wants one."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from url_conflicts(self.url, self.token_variable)


@asynccontextmanager
async def open_retriever(settings: RetrieverSettings) -> AsyncIterator[tuple[Tool, ...]]:
    """`search` and `lookup` as over a corpus of one's own. Raises UserError for a token that is not set.

    `lookup` keeps nothing of earlier searches, so it answers the same to whoever asks, after a restart too: it asks the
    server for the title, and looks in the passages that carry exactly that one, in the server's order.
    """
    checked(settings, "retriever")
    token = secret(settings.token_variable) if settings.token_variable is not None else None
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    provider = urlsplit(settings.url).netloc
    async with open_upstream(provider, settings.timeout_s, secrets=(token,) if token else ()) as upstream:

        async def retrieve(query: str, k: int) -> list[Hit]:
            body = {"queries": [query], "topk": k, "return_scores": True}
            return (await upstream.ask(Request(settings.url, headers, body=body), _hits))[:k]

        async def search(arguments: Mapping[str, Any], _: str) -> ToolReply:
            hits = await retrieve(arguments["query"], arguments.get("k", settings.results))
            return found(hits) if hits else ToolReply(f"{NOT_FOUND} {arguments['query']}.", {"results": []})

        async def lookup(arguments: Mapping[str, Any], _: str) -> ToolReply:
            title = normalise(arguments["title"])
            hits = await retrieve(arguments["title"], settings.lookup_results)
            return looked_up([hit.passage for hit in hits if normalise(hit.passage.title) == title], arguments)

        def tool(name: str, description: str, parameters: Schema, run: Run) -> Tool:
            return Tool(name, version, description, parameters, run, provider=provider, about=about)

        version = f"1+{settings.corpus}.{settings.results}.{settings.lookup_results}"
        about = {"retriever": settings.url, "serves": settings.corpus, "results": settings.results}
        yield (
            tool("search", "Search for passages about something.", SEARCH, search),
            tool("lookup", "Find the next sentence with a keyword in a passage.", LOOKUP, lookup),
        )


def _hits(answer: Any) -> list[Hit]:
    """The passages of an answer to one query."""
    (entries,) = answer["result"]
    return [_hit(entry) for entry in entries]


def _hit(entry: Mapping[str, Any]) -> Hit:
    """{"document", "score"}; some servers leave the score out, and the document alone stands in its place."""
    document = entry.get("document", entry)
    texts = {key: valid_unicode(value) for key, value in document.items() if isinstance(value, str)}
    return Hit(str(document.get("id", "")), passage_of(texts), float(entry.get("score", 0)))
