"""Brave's own index of the web (https://brave.com/search/api)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from rest_jax.config.limits import NotNegative, checked
from rest_jax.config.plain import FREE
from rest_jax.core.effects import ToolErrorKind
from rest_jax.core.http import Headers, retry_after_s
from rest_jax.core.secrets import secret
from rest_jax.tools.registry import Tool, ToolFailure
from rest_jax.tools.search.readable import unescape
from rest_jax.tools.search.web import Form, Result, WebSettings, lookup_tool, search_tool, text
from rest_jax.tools.upstream import Request, open_upstream

MAX_WORDS = 50
"""The most words of a query that Brave takes."""


@dataclass(frozen=True)
class BraveSettings(WebSettings):
    """Web search by Brave."""

    url: str = "https://api.search.brave.com/res/v1/web/search"
    """Where Brave is asked."""
    cost: NotNegative = field(default=0.005, metadata=FREE)
    """US dollars that one search costs by your plan, counted against the budget."""
    key_variable: str = field(default="BRAVE_API_KEY", metadata=FREE)
    """The environment variable that holds the key."""
    country: str = "us"
    """Where the searcher sits."""
    language: str = "en"
    """The language of the pages (`search_lang`)."""


@asynccontextmanager
async def open_brave(settings: BraveSettings) -> AsyncIterator[tuple[Tool, ...]]:
    """`search` and `lookup`, as `search_tool` and `lookup_tool` describe them. Raises UserError without a key."""
    checked(settings, "brave")
    key = secret(settings.key_variable)

    def request(query: str, k: int) -> Request:
        if len(query.split()) > MAX_WORDS:
            raise ToolFailure(ToolErrorKind.BAD_ARGUMENTS, f"query: more than {MAX_WORDS} words")
        params = {
            "q": query,
            "count": str(k),
            "country": settings.country,
            "search_lang": settings.language,
            "result_filter": "web",
            "text_decorations": "false",
        }
        headers = {"X-Subscription-Token": key, "Accept": "application/json", "Cache-Control": "no-cache"}
        return Request(settings.url, headers, params)

    async with open_upstream("brave", settings.timeout_s, secrets=(key,), wait_s=until_reset_s) as upstream:
        search = search_tool(upstream, Form(request, _results, query_chars=400, max_results=20), settings)
        yield search, lookup_tool(search)


def until_reset_s(headers: Headers) -> float:
    """Seconds until all quotas that are used up are there again, or what Retry-After says if that is longer.

    Brave counts in windows, one a place: `X-RateLimit-Remaining: 0, 1000` with `X-RateLimit-Reset: 1, 1419704` is a
    second to wait, and half a month where the other one stands at 0.
    """
    remaining, reset = (headers.get(f"X-RateLimit-{name}", "").split(",") for name in ("Remaining", "Reset"))
    windows = zip((part.strip() for part in remaining), (part.strip() for part in reset), strict=False)
    waits = [float(seconds[:9]) for left, seconds in windows if left == "0" and seconds.isdecimal()]
    return max([retry_after_s(headers), *waits])


def _results(answer: Any) -> list[Result]:
    if answer["type"] != "search":
        raise ValueError(f"type {answer['type']}")
    found = answer.get("web") or {"results": []}  # a search that finds nothing has no "web" at all
    return [
        Result(
            unescape(text(item, "title")),
            text(item, "url"),
            unescape(text(item, "description")),
            text(item, "age") or None,
        )
        for item in found["results"]
    ]
