"""Any MCP server as tools (modelcontextprotocol.io; extra `mcp`: the Python SDK, version 2).

The one file that imports the SDK, whose names change from one major version to the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import re
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp.client import Transport
from mcp.client.streamable_http import streamable_http_client
from mcp.types import (
    AudioContent,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    TextContent,
    TextResourceContents,
    ToolAnnotations,
    jsonrpc,
)
from mcp.types import Tool as Described

from rest_jax.config.limits import AboveZero
from rest_jax.core.canonical import digest
from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.core.errors import UserError
from rest_jax.core.http import url_conflicts
from rest_jax.core.secrets import redacted, secret
from rest_jax.tools.bridges.foreign import refusal
from rest_jax.tools.bridges.kept import Kept
from rest_jax.tools.protocol import MAX_BODY_BYTES
from rest_jax.tools.redact import secrets_of
from rest_jax.tools.registry import Tool, ToolFailure

CALLS = 64
"""Calls of one server in flight at once: with 1,000 waiting, httpx took 50 times as long as aiohttp (18.7 s)."""

MAX_TOOLS = 256
"""The most tools that one server may list."""

DESCRIPTION_CHARS = 2_048
"""A tool's description is cut here, and so is what an error says."""

PROBE_S = 5.0
"""After a call that ran out of time: how long a server that still lives may take to list its tools."""

LINE_CHARS = 2**20
"""A longer line of a server's standard error is passed on in pieces."""

CONNECT_S = 30.0
READ_S = 300.0
"""What the SDK allows HTTP by default: reading may take long, because a call's own deadline is the adapter's."""

LOST = frozenset({jsonrpc.CONNECTION_CLOSED, jsonrpc.INVALID_REQUEST})
"""Codes of a session that is gone; of a request that is wrong in itself no server of a listed tool complains."""

_NAME = re.compile(r"[A-Za-z0-9_./-]{1,128}")


@dataclass(frozen=True)
class McpSettings:
    """An MCP server. It is trusted as a program is that one starts: what it notes about its tools is believed."""

    name: str
    """What the server is called here: in messages, and as the provider whose limits its tools share."""
    command: tuple[str, ...] = ()
    """The program that is the server, and its arguments; spoken to over its standard input and output."""
    url: str | None = None
    """Where the server listens (streamable HTTP), instead of a command."""
    prefix: str = ""
    """Put before the names of its tools."""
    tools: tuple[str, ...] = ()
    """Which of its tools to serve, by the server's own names; empty serves all."""
    repeatable: tuple[str, ...] = ()
    """Tools that may be repeated although the server does not note them as readOnly or idempotent, and whose answers
    may be some time old: those are cached. A note alone does not say what other tools, or others, change meanwhile."""
    stateful: tuple[str, ...] = ()
    """Tools that only read, by the server's own notes, what an episode's other calls change: they are stateful too, so
    that a recording knows each call by all that came before it. Without it, an equal call has one answer there."""
    environment_variables: tuple[str, ...] = ()
    """Environment variables that the command gets beside PATH, HOME and the like."""
    token_variable: str | None = None
    """Environment variable with the bearer token for the url."""
    start_s: AboveZero = 30.0
    """Seconds that the server may take to start, or to be reached."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if bool(self.command) == (self.url is not None):
            yield "command", "a server has either a command or a url; give one of them"
        if self.url is not None:
            yield from url_conflicts(self.url, self.token_variable)
        for name in sorted({*self.stateful} & {*self.repeatable}):
            yield "stateful", f"{name} is repeatable too, which says that it needs no session; leave it out of one"


@contextlib.asynccontextmanager
async def open_mcp(settings: McpSettings) -> AsyncIterator[tuple[Tool, ...]]:
    """The server's tools, listed once; the server is started (or reached) now, and left at the end.

    All episodes share one session, so a server that keeps a state for each session keeps one for all. A tool that is
    not noted as readOnly or idempotent is `stateful`: a call that may have run is never repeated. When the session is
    lost, calls in flight fail as `infra` (those of other tools are made once more), and the next call begins another.
    A result that says isError is `tool_error`. The text of a result is the content (images and the like are named),
    its structured content the data.
    Raises UserError when the server does not answer, or lists what will not do.
    """
    for noisy in ("httpx2", "mcp"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    server = _Server(settings)
    try:
        yield await server.tools()
    finally:
        await server.close()


class _Server:
    """One server, and the session with it."""

    def __init__(self, settings: McpSettings) -> None:
        self._settings = settings
        self._secrets = secrets_of(settings)
        self._transport = _transport(settings, self._secrets)
        self._session = Kept(self._connect, settings.start_s)
        self._places = asyncio.Semaphore(CALLS)
        self._probe: asyncio.Task[None] | None = None

    async def close(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.gather(self._probe, return_exceptions=True)
        await self._session.close()

    async def tools(self) -> tuple[Tool, ...]:
        settings = self._settings
        try:
            async with asyncio.timeout(settings.start_s):
                client = await self._session.get()
                listed = await _listed(client)
        except TimeoutError:
            raise self._silent(f"nothing within {settings.start_s:g} s") from None
        except (ConnectionError, MCPError, ValueError) as error:
            raise self._silent(self._told(" ".join(str(error).split()))) from error
        known = {tool.name: tool for tool in listed}
        for name in (*settings.tools, *settings.repeatable, *settings.stateful):
            if name not in known:
                raise UserError(
                    f"the MCP server {settings.name} has no tool {name!r}, only {', '.join(known)[:DESCRIPTION_CHARS]}"
                )
        named = client.server_info and [client.server_info.name, client.server_info.version]
        maker = digest([named, settings.command, settings.url])
        return tuple(self._tool(known[name], maker) for name in settings.tools or known)

    def _silent(self, reason: str) -> UserError:
        where = self._settings.url or self._settings.command[0]
        return UserError(f"the MCP server {self._settings.name} ({where}) does not answer as one: {reason}; see to it")

    def _tool(self, described: Described, maker: str) -> Tool:
        settings = self._settings
        why = refusal(described.input_schema)
        if why or not _NAME.fullmatch(described.name):
            raise UserError(
                f"the tool {described.name[:128]!r} of the MCP server {settings.name} is refused: "
                f"{why or 'its name is no name'}; name the others under `tools`"
            )
        notes = described.annotations or ToolAnnotations()
        named = described.name in settings.repeatable
        noted = bool(notes.read_only_hint or notes.idempotent_hint) and described.name not in settings.stateful
        repeatable = noted or named

        async def run(arguments: Mapping[str, Any], _: str) -> ToolReply:
            result = await self._call(described.name, dict(arguments), 2 if repeatable else 1)
            content = "\n".join(map(_shown, result.content))
            if result.is_error:
                raise ToolFailure(ToolErrorKind.TOOL_ERROR, self._told(content) or "the tool failed without a word")
            data = result.structured_content
            return ToolReply(content, data if isinstance(data, dict) else {})

        description = (described.description or "")[:DESCRIPTION_CHARS]
        return Tool(
            name=settings.prefix + described.name,
            version=f"mcp-{digest([maker, described.name, description, described.input_schema])[:12]}",
            description=description,
            parameters=described.input_schema,
            run=run,
            deterministic=False,
            may_be_old=named,
            stateful=not repeatable,
            provider=settings.name,
        )

    async def _call(self, name: str, arguments: dict[str, Any], attempts: int) -> CallToolResult:
        async with self._places:
            try:
                client = await self._session.get()
            except ConnectionError as error:
                raise self._failure(ToolErrorKind.INFRA, f"cannot be reached ({error})") from error
            try:
                return await client.call_tool(name, arguments)
            except asyncio.CancelledError:
                self._doubt(client)
                raise
            except MCPError as error:
                if error.code not in LOST:
                    raise self._failure(_kind(error), f"refuses: {error.message}") from error
                self._session.lose(client)
                if attempts == 1:
                    raise self._failure(ToolErrorKind.INFRA, f"was lost ({error.message})") from error
            except Exception as error:  # an answer that is not of the protocol
                raise self._failure(ToolErrorKind.INFRA, f"sent no answer of the protocol ({error})") from error
        return await self._call(name, arguments, attempts - 1)

    def _failure(self, kind: ToolErrorKind, what: str) -> ToolFailure:
        return ToolFailure(kind, f"the MCP server {self._settings.name} {self._told(what)}")

    def _told(self, text: str) -> str:
        """A server's words, without our secrets, cut."""
        return redacted(text, self._secrets)[:DESCRIPTION_CHARS]

    def _doubt(self, client: Client) -> None:
        """A call ran out of time: if the server does not answer at all, the next call begins another session."""
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._probe_once(client))

    async def _probe_once(self, client: Client) -> None:
        try:
            async with asyncio.timeout(PROBE_S):
                await client.list_tools()
        except Exception:
            self._session.lose(client)

    @contextlib.asynccontextmanager
    async def _connect(self) -> AsyncIterator[Client]:
        async with Client(self._transport(), cache=None) as client:
            yield client


def _transport(settings: McpSettings, secrets: Sequence[str]) -> Callable[[], Transport]:
    """What begins a transport to the server. Raises UserError for an environment variable that is not set."""
    if settings.url is None:
        passed_on = {name: _variable(settings.name, name) for name in settings.environment_variables}
        command, *arguments = settings.command
        started = StdioServerParameters(command=command, args=arguments, env=passed_on)
        return functools.partial(_stdio, started, secrets)
    token = settings.token_variable and secret(settings.token_variable)
    return functools.partial(_http, settings.url, {"Authorization": f"Bearer {token}"} if token else {})


@contextlib.asynccontextmanager
async def _stdio(started: StdioServerParameters, secrets: Sequence[str]) -> AsyncIterator[Any]:
    """What the server says on its standard error goes to ours, without our secrets."""
    reading, writing = os.pipe()
    threading.Thread(target=_pass_on, args=[reading, secrets], name="mcp-stderr", daemon=True).start()
    with os.fdopen(writing, "w") as errors:
        async with stdio_client(started, errlog=errors) as streams:
            yield streams


def _pass_on(reading: int, secrets: Sequence[str]) -> None:
    with os.fdopen(reading, encoding="utf-8", errors="replace") as said:
        while line := said.readline(LINE_CHARS):
            sys.stderr.write(redacted(line, secrets))
            sys.stderr.flush()


@contextlib.asynccontextmanager
async def _http(url: str, headers: Mapping[str, str]) -> AsyncIterator[Any]:
    timeout = httpx2.Timeout(CONNECT_S, read=READ_S)
    limits = httpx2.Limits(max_connections=None)
    async with (
        httpx2.AsyncClient(headers=headers, timeout=timeout, limits=limits) as http,
        streamable_http_client(url, http_client=http, max_sse_event_size=MAX_BODY_BYTES) as streams,
    ):
        yield streams


def _variable(server: str, name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise UserError(f"the MCP server {server} needs the environment variable {name}; set it")
    return value


async def _listed(client: Client) -> list[Described]:
    """All tools, page by page. Raises ConnectionError when there is no end to them."""
    tools: list[Described] = []
    cursor: str | None = None
    while True:
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        if len(tools) > MAX_TOOLS:
            raise ConnectionError(f"it lists more than {MAX_TOOLS} tools")
        cursor = page.next_cursor
        if cursor is None:
            return tools


def _kind(error: MCPError) -> ToolErrorKind:
    match error.code:
        case jsonrpc.INVALID_PARAMS:
            return ToolErrorKind.BAD_ARGUMENTS
        case jsonrpc.REQUEST_TIMEOUT:
            return ToolErrorKind.TIMEOUT
    return ToolErrorKind.INFRA


def _shown(block: ContentBlock) -> str:
    match block:
        case TextContent(text=text) | EmbeddedResource(resource=TextResourceContents(text=text)):
            return text
        case ImageContent() | AudioContent():
            return f"[{block.type}: {block.mime_type}, {len(block.data) * 3 // 4} bytes]"
        case EmbeddedResource(resource=resource):
            return f"[resource: {resource.uri}]"
    return f"[resource: {block.name}, {block.uri}]"
