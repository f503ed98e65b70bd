"""Services of strangers, for the tests: real servers that answer as a provider does, or as badly as anybody can."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from aiohttp import web

from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.tools.registry import Tool, ToolFailure
from rest_jax.tools.upstream import MAX_BYTES

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], str]
Opened = AbstractAsyncContextManager[tuple[Tool, ...]]


def app_of(handler: Handler) -> web.Application:
    """An application that answers every request by `handler`."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    return app


def answering(payload: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Handler:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.json_response(payload, status=status, headers=headers)

    return handler


def saying(body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Handler:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers={"Content-Type": "application/json", **(headers or {})})

    return handler


async def slow_loris(request: web.Request) -> web.StreamResponse:
    """A byte now and then, for as long as somebody listens."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.02)


async def endless(request: web.Request) -> web.StreamResponse:
    """Bytes without end, as fast as they are taken."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(b" " * 65_536)


async def broken_off(request: web.Request) -> web.StreamResponse:
    """A connection that ends in the middle of the body."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"{")
    assert request.transport is not None
    request.transport.abort()
    return response


FAULTS: Mapping[str, tuple[Handler, ToolErrorKind, str]] = {
    "unauthorised": (answering({"message": "Unauthorized."}, status=401), ToolErrorKind.INFRA, "Unauthorized"),
    "forbidden": (answering({"message": "no credits"}, status=403), ToolErrorKind.INFRA, "answered 403.*no credits"),
    "limited": (answering({}, status=429, headers={"Retry-After": "7"}), ToolErrorKind.RATE_LIMITED, "answered 429"),
    "defect": (saying(b"<h1>Oops</h1>", status=500), ToolErrorKind.INFRA, "answered 500: <h1>Oops"),
    "redirect": (saying(b"", status=302, headers={"Location": "/elsewhere"}), ToolErrorKind.INFRA, "answered 302"),
    "garbage": (saying(b"\xff<html>"), ToolErrorKind.INFRA, "did not answer in JSON"),
    "nan": (saying(b"[NaN]"), ToolErrorKind.INFRA, "NaN is no JSON"),
    "deep": (saying(b"[" * 100_000), ToolErrorKind.INFRA, "did not answer in JSON"),
    "another shape": (answering([{"organic": 7}]), ToolErrorKind.INFRA, "did not answer in its own shape"),
    "slow loris": (slow_loris, ToolErrorKind.TIMEOUT, "did not answer within 0.5 s"),
    "oversized": (endless, ToolErrorKind.INFRA, f"more than {MAX_BYTES} bytes"),
    "zip bomb": (
        saying(gzip.compress(b" " * 2 * MAX_BYTES), headers={"Content-Encoding": "gzip"}),
        ToolErrorKind.INFRA,
        f"more than {MAX_BYTES} bytes",
    ),
    "broken off": (broken_off, ToolErrorKind.INFRA, "is out of reach"),
}
"""What any service may do, and what becomes of it for one that has 0.5 s to answer."""


def call(opened: Opened, name: str, **arguments: Any) -> ToolReply:
    """One call of the tool `name`, as the adapter makes it."""

    async def run() -> ToolReply:
        async with opened as tools:
            (tool,) = (tool for tool in tools if tool.name == name)
            tool.check(arguments)
            return await tool.run(arguments, "episode")

    return asyncio.run(run())


def failed(opened: Opened, name: str, **arguments: Any) -> ToolFailure:
    """The failure of one call."""
    with pytest.raises(ToolFailure) as error:
        call(opened, name, **arguments)
    return error.value
