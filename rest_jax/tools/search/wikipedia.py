"""Wikipedia by the MediaWiki API, as its etiquette asks: one request at a time, `maxlag`, and a contact.

ReAct's own tools: `search` shows how the pages found begin, `lookup` walks the sentences of a page.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

from rest_jax.config.limits import Positive, checked
from rest_jax.config.plain import FREE
from rest_jax.core.canonical import digest
from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.core.text import valid_unicode
from rest_jax.tools.registry import Tool, ToolFailure
from rest_jax.tools.search.corpus import Passage
from rest_jax.tools.search.replies import LOOKUP, looked_up
from rest_jax.tools.search.text import sentences
from rest_jax.tools.search.web import Form, Result, WebSettings, search_tool, text
from rest_jax.tools.upstream import USER_AGENT, Request, Upstream, open_upstream

MAX_LAG_S = 5
"""Wikipedia's databases may lag behind by this; beyond it a request is refused, as the etiquette asks of programs."""

BUSY = frozenset({"maxlag", "ratelimited", "cirrussearch-too-busy-error"})
"""Error codes of the API that mean: later."""

_COMMON = {"action": "query", "format": "json", "formatversion": "2", "maxlag": str(MAX_LAG_S), "redirects": "1"}


@dataclass(frozen=True)
class WikipediaSettings(WebSettings):
    """Wikipedia, live."""

    url: str = "https://en.wikipedia.org/w/api.php"
    """The API of the wiki that is asked."""
    contact: str = field(default="", metadata=FREE)
    """An e-mail address or a web page by which you can be reached: Wikimedia's policy demands it of every program."""
    sentences: Positive = 5
    """How many sentences a search shows of each page."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from super().conflicts()
        if not re.fullmatch(r"[!-~]+[@.][!-~]+", self.contact):
            yield "contact", "expected an e-mail address or a web page of yours, as Wikimedia's policy demands"


@asynccontextmanager
async def open_wikipedia(settings: WikipediaSettings) -> AsyncIterator[tuple[Tool, ...]]:
    """`search`, as `search_tool` describes it, and `lookup`, as for a corpus. Raises UserError without a contact."""
    agent = f"{USER_AGENT} ({checked(settings, 'wikipedia').contact})"
    async with open_upstream("wikipedia", settings.timeout_s, user_agent=agent, at_once=1) as upstream:
        form = Form(partial(_search, settings), partial(_results, settings.sentences), query_chars=300, max_results=20)
        yield search_tool(upstream, form, settings), _lookup_tool(upstream, settings.url)


def _lookup_tool(upstream: Upstream, url: str) -> Tool:
    async def lookup(arguments: Mapping[str, Any], _: str) -> ToolReply:
        # Before a list of titles, U+001F makes itself the separator: a title that holds a | stays one title.
        params = {**_COMMON, "prop": "extracts", "explaintext": "1", "titles": f"\x1f{arguments['title']}"}
        return looked_up(await upstream.ask(Request(url, params=params), _passages), arguments)

    return Tool(
        "lookup",
        f"1+{digest(url)[:12]}",
        "Find the next sentence with a keyword in a page.",
        LOOKUP,
        lookup,
        deterministic=False,
        may_be_old=True,
        provider=upstream.name,
    )


def _search(settings: WikipediaSettings, query: str, k: int) -> Request:
    params = {
        **_COMMON,
        "prop": "extracts|info",
        "inprop": "url",
        "exintro": "1",
        "explaintext": "1",
        "exlimit": "max",
        "generator": "search",
        "gsrsearch": query,
        "gsrlimit": str(k),
    }
    return Request(settings.url, params=params)


def _results(shown: int, answer: Any) -> list[Result]:
    return [
        Result(text(page, "title"), text(page, "fullurl"), " ".join(sentences(text(page, "extract"))[:shown]))
        for page in _pages(answer)
    ]


def _passages(answer: Any) -> list[Passage]:
    return [Passage(page["title"], valid_unicode(page["extract"])) for page in _pages(answer)]


def _pages(answer: Any) -> list[Any]:
    """The pages in an answer, in the search's order: the API lists them by their number."""
    if "error" in answer:
        _refuse(answer["error"])
    pages = answer.get("query", {"pages": []})["pages"]  # a search that finds nothing has no "query" at all
    there = [page for page in pages if not page.get("missing") and not page.get("invalid")]
    return sorted(there, key=lambda page: page.get("index", 0))


def _refuse(error: Mapping[str, Any]) -> NoReturn:
    """The API refuses with status 200. Of a lag it says how long it is; its manual asks for a pause of 5 s at least."""
    busy = error["code"] in BUSY
    raise ToolFailure(
        ToolErrorKind.RATE_LIMITED if busy else ToolErrorKind.INFRA,
        f"wikipedia answered {error['code']}: {error.get('info', '')}"[:300],
        retry_after_s=max(5.0, float(error.get("lag", 0))) if busy else 0.0,
    )
