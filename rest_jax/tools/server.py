"""The adapter's HTTP server: POST /v1/call, GET /v1/tools, GET /healthz."""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from aiohttp import web

from rest_jax.core.effects import ToolErrorKind
from rest_jax.core.errors import UserError
from rest_jax.tools import protocol
from rest_jax.tools.protocol import Call, ProtocolError, Result, failure
from rest_jax.tools.registry import Tool, ToolFailure

SHUTDOWN_S = 5.0
"""After SIGTERM, how long calls in progress may take to end."""

logger = logging.getLogger(__name__)


class Adapter:
    """Answers calls with the tools it is given."""

    def __init__(self, tools: Sequence[Tool], timeout_s: float, about: Mapping[str, Any]) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._timeout_s = timeout_s
        self._about = about

    async def answer(self, call: Call, deadline_s: float) -> Result:
        """The result of one call within the deadline and the adapter's own limit; never an exception."""
        tool = self._tools.get(call.tool)
        if tool is None:
            names = ", ".join(self._tools)
            return failure(call.id, ToolErrorKind.BAD_ARGUMENTS, f"there is no tool {call.tool!r}, only {names}")
        began = time.perf_counter()
        result = await self._run(tool, call, min(deadline_s, self._timeout_s))
        return replace(
            result,
            reply=replace(result.reply, tool_version=tool.version),
            retryable=result.retryable and not tool.stateful,
            latency_ms=1000 * (time.perf_counter() - began),
        )

    async def _run(self, tool: Tool, call: Call, limit_s: float) -> Result:
        try:
            tool.check(call.arguments)
            async with asyncio.timeout(limit_s):
                return Result(call.id, await tool.run(call.arguments, call.episode))
        except ToolFailure as error:
            return failure(call.id, error.kind, str(error))
        except TimeoutError:
            return failure(call.id, ToolErrorKind.TIMEOUT, f"{tool.name} took more than {limit_s:g} s")
        except Exception as error:  # a tool's defect must neither stop the batch nor be held against the model
            logger.exception("%s failed on %r", tool.name, dict(call.arguments))
            return failure(call.id, ToolErrorKind.INFRA, f"{tool.name}: {type(error).__name__}: {error}")

    async def call(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/call: results in one JSON object, or a line each as they come if the client accepts lines."""
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="send Content-Type: application/json")
        try:
            batch = protocol.parse_batch(await request.read())
        except ProtocolError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        tasks = [asyncio.create_task(self.answer(call, batch.deadline_s)) for call in batch.calls]
        try:
            if protocol.LINES not in request.headers.get("Accept", ""):
                results = await asyncio.gather(*tasks)
                return web.json_response({"results": [protocol.result_fields(result) for result in results]})
            response = web.StreamResponse(headers={"Content-Type": protocol.LINES})
            await response.prepare(request)
            for task in asyncio.as_completed(tasks):
                await response.write(protocol.dump_result(await task))
            await response.write_eof()
            return response
        finally:
            for task in tasks:
                task.cancel()

    async def tools(self, request: web.Request) -> web.Response:
        """GET /v1/tools: OpenAI's `tools` array, with version, deterministic and stateful beside each function."""
        return web.json_response({"tools": [tool.described() for tool in self._tools.values()]})

    async def health(self, request: web.Request) -> web.Response:
        """GET /healthz: that it answers, who it is, and what it serves."""
        stateful = [tool.name for tool in self._tools.values() if tool.stateful]
        known = {"status": "ok", "pid": os.getpid(), "tools": list(self._tools), "stateful": stateful}
        return web.json_response({**known, **self._about})


def create_app(
    tools: Sequence[Tool], *, timeout_s: float, about: Mapping[str, Any], token: str | None = None
) -> web.Application:
    """The adapter as an aiohttp application.

    timeout_s: the most seconds that one call may take. about: what /healthz adds (corpus, index settings).
    token: if given, every request must bear it (`Authorization: Bearer TOKEN`).
    """
    adapter = Adapter(tools, timeout_s, about)
    app = web.Application(
        client_max_size=protocol.MAX_BODY_BYTES, middlewares=[_bearer(token)] if token is not None else []
    )
    app.add_routes(
        [
            web.post("/v1/call", adapter.call),
            web.get("/v1/tools", adapter.tools),
            web.get("/healthz", adapter.health),
        ]
    )
    return app


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _bearer(token: str) -> Any:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise web.HTTPUnauthorized(text="send Authorization: Bearer TOKEN")
        return await handler(request)

    return check


async def serve(app: web.Application, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. `announce` gets the URL once the port (0: a free one) is open.

    Raises UserError when the address cannot be used.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # Handler cancellation: calls of a client that has gone are given up.
    runner = web.AppRunner(app, shutdown_timeout=SHUTDOWN_S, access_log=None, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        announce(f"http://{f'[{host}]' if ':' in host else host}:{runner.addresses[0][1]}")
        await stop.wait()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UserError(f"cannot listen on {host}:{port} ({reason}); choose another --host or --port") from error
    finally:
        await runner.cleanup()
