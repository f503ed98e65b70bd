"""Google's results by way of Serper (https://serper.dev)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from rest_jax.config.limits import NotNegative, checked
from rest_jax.config.plain import FREE
from rest_jax.core.secrets import secret
from rest_jax.tools.registry import Tool
from rest_jax.tools.search.web import Form, Result, WebSettings, lookup_tool, search_tool, text
from rest_jax.tools.upstream import Request, open_upstream


@dataclass(frozen=True)
class SerperSettings(WebSettings):
    """Web search by Serper."""

    url: str = "https://google.serper.dev/search"
    """Where Serper is asked."""
    cost: NotNegative = field(default=0.001, metadata=FREE)
    """US dollars that one search costs by your plan, counted against the budget."""
    key_variable: str = field(default="SERPER_API_KEY", metadata=FREE)
    """The environment variable that holds the key."""
    country: str = "us"
    """Where the searcher sits (`gl`)."""
    language: str = "en"
    """The searcher's language (`hl`)."""


@asynccontextmanager
async def open_serper(settings: SerperSettings) -> AsyncIterator[tuple[Tool, ...]]:
    """`search` and `lookup`, as `search_tool` and `lookup_tool` describe them. Raises UserError without a key."""
    checked(settings, "serper")
    key = secret(settings.key_variable)

    def request(query: str, k: int) -> Request:
        body = {"q": query, "num": k, "gl": settings.country, "hl": settings.language}
        return Request(settings.url, {"X-API-KEY": key}, body=body)

    async with open_upstream("serper", settings.timeout_s, secrets=(key,)) as upstream:
        search = search_tool(upstream, Form(request, _results, query_chars=2048, max_results=100), settings)
        yield search, lookup_tool(search)


def _results(answer: Any) -> list[Result]:
    return [
        Result(text(item, "title"), text(item, "link"), text(item, "snippet"), text(item, "date") or None)
        for item in answer["organic"]
    ]
