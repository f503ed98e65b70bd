"""Web search: whoever the provider is, one tool and one form of result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rest_jax.config.limits import AboveZero, NotNegative, Positive
from rest_jax.config.plain import FREE, settings_digest
from rest_jax.core.effects import NO_MORE, NOT_FOUND, ToolReply
from rest_jax.core.http import url_conflicts
from rest_jax.core.text import valid_unicode
from rest_jax.tools.registry import Schema, Tool
from rest_jax.tools.search.corpus import Passage
from rest_jax.tools.search.replies import LOOKUP, PASSAGE_CHARS, looked_up
from rest_jax.tools.search.text import normalise
from rest_jax.tools.upstream import Request, Upstream


@dataclass(frozen=True)
class WebSettings:
    """What every provider's settings say."""

    url: str
    """Where the provider is asked."""
    results: Positive = 5
    """Results that a search shows unless it says how many."""
    urls: bool = False
    """Whether each result is shown with its URL, for an agent that may fetch it."""
    timeout_s: AboveZero = field(default=10.0, metadata=FREE)
    """The most seconds that the provider may take."""
    cost: NotNegative = field(default=0.0, metadata=FREE)
    """US dollars that one search costs by your plan, counted against the budget."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from url_conflicts(self.url)


@dataclass(frozen=True)
class Result:
    """A page found."""

    title: str
    url: str
    snippet: str
    date: str | None = None
    """When it was published, in the provider's own words."""

    def fields(self) -> dict[str, str]:
        """As JSON, without what is not known."""
        known = {"title": self.title, "url": self.url, "snippet": self.snippet, "date": self.date}
        return {name: value for name, value in known.items() if value is not None}


@dataclass(frozen=True)
class Form:
    """How a provider is asked, and how its answer is read."""

    request: Callable[[str, int], Request]
    """(query, most results) → request. Raises ToolFailure for a query that the provider would not take."""
    results: Callable[[Any], list[Result]]
    """answer → results, the best first; raises as `Upstream.ask` says."""
    query_chars: int
    """The longest query that it takes."""
    max_results: int
    """The most results that it gives at once."""


def search_tool(upstream: Upstream, form: Form, settings: WebSettings) -> Tool:
    """`search` by way of a provider.

    search  {"query", "k"?: `results` unless given} → content "Title: snippet", a result a line, or with `urls` "Title
            (URL): snippet"; data {"results": [{"title", "url", "snippet", "date"?}]}.
            Nothing found: content "Could not find QUERY."
    """

    async def search(arguments: Mapping[str, Any], _: str) -> ToolReply:
        query, k = arguments["query"], arguments.get("k", settings.results)
        results = await upstream.ask(form.request(query, k), form.results)
        return _reply(query, results[:k], settings.urls)

    return Tool(
        "search",
        f"1+{settings_digest(settings)}",
        "Search the web for pages about something.",
        _parameters(form),
        search,
        deterministic=False,
        may_be_old=True,
        provider=upstream.name,
        cost=settings.cost,
        about={"provider": upstream.name, "results": settings.results},
    )


def lookup_tool(search: Tool) -> Tool:
    """`lookup` by way of a provider that gives snippets, not pages: it costs a search.

    It keeps nothing of earlier searches, so it answers the same to whoever asks: it searches for the title, and looks
    in the snippets of the results that carry exactly that one; a title that is not found again has no more results.
    """
    most = search.parameters["properties"]["query"]["maxLength"]

    async def lookup(arguments: Mapping[str, Any], episode: str) -> ToolReply:
        title = normalise(arguments["title"])
        found = await search.run({"query": arguments["title"][:most]}, episode)
        passages = [Passage(one["title"], one["snippet"]) for one in found.data["results"]]
        titled = [passage for passage in passages if normalise(passage.title) == title]
        if not titled:
            return ToolReply(f"{NO_MORE}.", {"index": arguments.get("index", 0), "count": 0})
        return looked_up(titled, arguments)

    description = "Find the next sentence with a keyword in what a search showed of a page."
    return replace(search, name="lookup", description=description, parameters=LOOKUP, run=lookup)


def text(item: Mapping[str, Any], key: str) -> str:
    """A text of a result, on one line; empty where there is none. Raises TypeError for anything else."""
    value = item.get(key)
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{key} is no text")
    return " ".join(valid_unicode(value or "").split())[:PASSAGE_CHARS]


def _reply(query: str, results: Sequence[Result], urls: bool) -> ToolReply:
    if not results:
        return ToolReply(f"{NOT_FOUND} {query}.", {"results": []})
    lines = [f"{one.title} ({one.url}): {one.snippet}" if urls else f"{one.title}: {one.snippet}" for one in results]
    return ToolReply("\n".join(lines), {"results": [one.fields() for one in results]})


def _parameters(form: Form) -> Schema:
    query = {"type": "string", "description": "What to search for.", "minLength": 1, "maxLength": form.query_chars}
    k = {"type": "integer", "description": "How many results to return.", "minimum": 1, "maximum": form.max_results}
    return {
        "type": "object",
        "properties": {"query": query, "k": k},
        "required": ["query"],
        "additionalProperties": False,
    }
