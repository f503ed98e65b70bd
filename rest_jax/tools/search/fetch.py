"""`fetch`: a web page as text, from the public internet alone."""

from __future__ import annotations

import asyncio
import codecs
import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver

from rest_jax.config.limits import AboveZero, Positive, checked
from rest_jax.config.plain import FREE, settings_digest
from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.core.errors import reason
from rest_jax.core.http import TooLong, read_body, retry_after_s
from rest_jax.tools.registry import Schema, Tool, ToolFailure
from rest_jax.tools.search.addresses import Forbidden, Network, guarded_connector
from rest_jax.tools.search.readable import Page, readable
from rest_jax.tools.upstream import USER_AGENT

MAX_REDIRECTS = 5

AT_ONCE = 32
"""Pages that are fetched at one time: each may fill the memory that one page may."""

TITLE_CHARS = 300
"""The most characters of a title that are shown."""

_HTML = frozenset({"text/html", "application/xhtml+xml"})
_TEXT = re.compile(r"text/[\w.+-]+|application/xhtml\+xml|application/(?:[\w.-]+\+)?json")

_NO_URL = (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)

_FINAL = frozenset({socket.EAI_NONAME, socket.EAI_NODATA})
"""How a resolver says that there is no such name; anything else may pass."""

_META = re.compile(rb"""<meta[^>]{1,200}?charset\s*=\s*["']?([\w-]{1,40})""", re.IGNORECASE)
_CHARSETS = re.compile(
    r"ascii|utf-(8|16|16-le|16-be)|iso8859-\d+|cp\d+|koi8-[rtu]|gb\w+|big5\w*|shift_jis\w*|euc_\w+|hz"
)
"""Python's names of what pages are written in. Others of its codecs are no charsets, or slow."""

_PARAMETERS: Schema = {
    "type": "object",
    "properties": {
        "url": {
            "type": "string",
            "description": "Address of the page, http or https.",
            "minLength": 1,
            "maxLength": 2048,
        }
    },
    "required": ["url"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class FetchSettings:
    """Pages of the web as text."""

    chars: Positive = 8000
    """The most characters of a page that are shown."""
    bytes: Positive = 2 * 2**20
    """A page that is longer, decompressed, is not read."""
    timeout_s: AboveZero = field(default=10.0, metadata=FREE)
    """The most seconds that a page may take, redirects included."""
    allowed: tuple[str, ...] = ()
    """Networks beside the public internet that may be reached, as 10.1.0.0/16."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        for network in self.allowed:
            try:
                ip_network(network)
            except ValueError as error:
                yield "allowed", f"{error}; write a network as 10.1.0.0/16"


@asynccontextmanager
async def open_fetch(
    settings: FetchSettings, resolver: AbstractResolver | None = None
) -> AsyncIterator[tuple[Tool, ...]]:
    """`fetch`. resolver: who resolves names; None is the system.

    fetch   {"url"} → content: the page's title on a line, then its text; data {"url": where redirects led, "title",
            "content_type", "chars": those of the whole text}.

    The agent's own failures (tool_error): an address that is no URL, that is not public, that nobody answers at, that
    answers with a status 4xx, with more than 5 redirects, with too much or with something else than text. A server that
    is slow, overloaded or breaks off is infrastructure: the same page may be there the next time.
    """
    allowed: list[Network] = [ip_network(network) for network in checked(settings, "fetch").allowed]
    async with aiohttp.ClientSession(
        connector=guarded_connector(allowed, resolver),
        timeout=aiohttp.ClientTimeout(total=settings.timeout_s),
        headers={"User-Agent": USER_AGENT, "Accept": "text/html,text/plain;q=0.9,*/*;q=0.1"},
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:
        turns = asyncio.Semaphore(AT_ONCE)

        async def fetch(arguments: Mapping[str, Any], _: str) -> ToolReply:
            async with turns:
                return await _fetched(session, arguments["url"], settings)

        yield (
            Tool(
                "fetch",
                f"1+{settings_digest(settings)}",
                "Read a web page.",
                _PARAMETERS,
                fetch,
                deterministic=False,
                may_be_old=True,
            ),
        )


async def _fetched(session: aiohttp.ClientSession, url: str, settings: FetchSettings) -> ToolReply:
    try:
        if urlsplit(url).scheme not in ("http", "https"):
            raise _failed(url, "only http and https can be fetched")
        # aiohttp counts the answer after the last redirect too.
        async with session.get(url, max_redirects=MAX_REDIRECTS + 1) as response:
            _refuse_status(url, response)
            if not _TEXT.fullmatch(response.content_type):
                raise _failed(url, f"{response.content_type} is no text")
            body = await read_body(response, settings.bytes)
    except TooLong:
        raise _failed(url, f"it has more than {settings.bytes} bytes") from None
    except TimeoutError:
        raise _failed(url, f"it took more than {settings.timeout_s:g} s", ToolErrorKind.TIMEOUT) from None
    except aiohttp.TooManyRedirects:
        raise _failed(url, f"more than {MAX_REDIRECTS} redirects") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise _failed(url, *_why(error)) from None
    page = await asyncio.to_thread(_page, body, response.content_type, response.charset)
    title = page.title[:TITLE_CHARS]
    text = f"{title}\n{page.text}" if title else page.text
    about = {"url": str(response.url), "title": title, "content_type": response.content_type, "chars": len(text)}
    return ToolReply(text[: settings.chars], about)


def _page(body: bytes, content_type: str, charset: str | None) -> Page:
    if content_type in _HTML:
        return readable(_decoded(body, charset or _declared(body)))
    return Page("", _decoded(body, charset))


def _declared(body: bytes) -> str | None:
    """The charset that a page gives for itself, near its beginning."""
    meta = _META.search(body[:2048])
    return meta[1].decode() if meta else None


def _decoded(body: bytes, charset: str | None) -> str:
    """The text; UTF-8 where no charset is known, with U+FFFD for what is not of it."""
    try:
        codec = codecs.lookup(charset or "utf-8").name
    except (LookupError, ValueError):
        codec = "utf-8"
    return body.decode(codec if _CHARSETS.fullmatch(codec) else "utf-8", errors="replace").removeprefix("\ufeff")


def _refuse_status(url: str, response: aiohttp.ClientResponse) -> None:
    """Raise ToolFailure unless a page was found."""
    if response.ok:
        return
    kind = ToolErrorKind.TOOL_ERROR if response.status < 500 else ToolErrorKind.INFRA
    if response.status == 429:
        kind = ToolErrorKind.RATE_LIMITED
    said = f"the server answered {response.status} {response.reason}"
    raise _failed(url, said, kind, retry_after_s=retry_after_s(response.headers))


def _why(error: Exception) -> tuple[str, ToolErrorKind]:
    """What an exception says of the page, and whether that may pass."""
    if isinstance(error, _NO_URL) or not isinstance(error, aiohttp.ClientError | OSError):
        return "there is no such URL", ToolErrorKind.TOOL_ERROR
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    final = isinstance(cause, Forbidden | ConnectionRefusedError | ssl.SSLError | aiohttp.ClientSSLError)
    final = final or (isinstance(cause, socket.gaierror) and cause.errno in _FINAL)
    return reason(cause), ToolErrorKind.TOOL_ERROR if final else ToolErrorKind.INFRA


def _failed(
    url: str, why: str, kind: ToolErrorKind = ToolErrorKind.TOOL_ERROR, *, retry_after_s: float = 0.0
) -> ToolFailure:
    return ToolFailure(kind, f"cannot fetch {url}: {why}", retry_after_s=retry_after_s)
