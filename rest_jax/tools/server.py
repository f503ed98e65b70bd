"""The adapter's HTTP server. `openapi.py` describes what each route takes and answers."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence

from aiohttp import web

from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.core.errors import UserError
from rest_jax.tools import metrics, protocol, retrieve
from rest_jax.tools.adapter import Adapter
from rest_jax.tools.guards import guards
from rest_jax.tools.openapi import openapi
from rest_jax.tools.protocol import MAX_DEADLINE_S, Call, Room
from rest_jax.tools.registry import Tool, ToolFailure
from rest_jax.tools.retrieve import Retrieval
from rest_jax.tools.service.service import Service

SHUTDOWN_S = 5.0
"""After SIGTERM, how long calls in progress may take to end."""

IDLE_S = 75.0
"""A connection is closed after so long without a request, also when its headers are still on their way."""

LINGER_S = 2.0
"""How long the rest of a refused body is read and thrown away, so that the client sees the refusal."""


SEARCHES = 16
"""Searches of one `POST /retrieve` at one time: a large request takes its turns among the others."""


class Routes:
    """The adapter's routes, each a handler."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter

    async def call(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/call: results in one JSON object, or a line each as they come if the client accepts lines."""
        batch = protocol.parse_batch(await _json_body(request))
        known = {result.id: result for result in await self._adapter.recall(batch.calls, batch.deadline_s)}
        room = Room()
        lines = [room.line_of(result, repeatable=True) for result in known.values()]
        asked = [call for call in batch.calls if call.id not in known]
        tasks = [asyncio.create_task(self._line(call, batch.deadline_s, room)) for call in asked]
        try:
            if protocol.LINES not in request.headers.get("Accept", ""):
                lines += await asyncio.gather(*tasks)
                body = b'{"results": [' + b",".join(lines) + b"]}"
                return web.Response(body=body, content_type="application/json")
            response = web.StreamResponse(headers={"Content-Type": protocol.LINES})
            await response.prepare(request)
            await response.write(b"".join(lines))
            for task in asyncio.as_completed(tasks):
                await response.write(await task)
            await response.write_eof()
            return response
        finally:
            for task in tasks:
                task.cancel()

    async def retrieve(self, request: web.Request) -> web.Response:
        """POST /retrieve, as Search-R1 has it."""
        wanted = retrieve.parse(await _json_body(request))
        calls = wanted.calls()
        if calls:
            self._refuse_unsearchable(wanted.topk)
        known = {result.id: result for result in await self._adapter.recall(calls, MAX_DEADLINE_S)}
        response, turns = retrieve.Response(len(wanted.queries)), asyncio.Semaphore(SEARCHES)

        async def search(call: Call) -> None:
            async with turns:
                result = known.get(call.id) or await self._adapter.answer(call, MAX_DEADLINE_S)
                response.add(call.id, _documents(wanted, result.reply))
                await asyncio.sleep(0)  # whoever else asks the adapter is answered in between

        searches = [asyncio.create_task(search(call)) for call in calls]
        try:
            await asyncio.gather(*searches)
        except retrieve.TooMany as error:
            raise web.HTTPRequestEntityTooLarge(protocol.MAX_REPLY_BYTES, 0, text=str(error)) from None
        finally:
            for task in searches:
                task.cancel()
        return web.Response(body=response.body(), content_type="application/json")

    async def tools(self, request: web.Request) -> web.Response:
        """GET /v1/tools: OpenAI's `tools` array, with each tool's version and nature beside its function."""
        return web.json_response({"tools": [tool.described() for tool in self._adapter.tools.values()]})

    async def health(self, request: web.Request) -> web.Response:
        """GET /healthz: that it answers, who it is, and what it serves."""
        tools = self._adapter.tools
        return web.json_response(
            {
                "status": "ok",
                "trouble": self._adapter.trouble,
                "pid": os.getpid(),
                "tools": {name: tool.version for name, tool in tools.items()},
                "stateful": [name for name, tool in tools.items() if tool.stateful],
                "at_once": {name: tool.turns.at_once for name, tool in tools.items() if tool.turns},
                "about": {name: dict(tool.about) for name, tool in tools.items() if tool.about},
            }
        )

    async def metrics(self, request: web.Request) -> web.Response:
        """GET /metrics, as Prometheus reads it."""
        return web.Response(text=self._adapter.metrics.text(), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def openapi(self, request: web.Request) -> web.Response:
        """GET /openapi.json."""
        return web.json_response(openapi())

    async def _line(self, call: Call, deadline_s: float, room: Room) -> bytes:
        tool = self._adapter.tools.get(call.tool)
        repeatable = tool is None or not tool.stateful
        return room.line_of(await self._adapter.answer(call, deadline_s), repeatable)

    def _refuse_unsearchable(self, topk: int | None) -> None:
        """A batch of queries that no search would take must not look like one that found nothing."""
        search = self._adapter.tools.get("search")
        if search is None:
            raise web.HTTPNotFound(text="this adapter has no tool called search")
        try:
            search.check({"query": "anything"} if topk is None else {"query": "anything", "k": topk})
        except ToolFailure as failure:
            raise web.HTTPUnprocessableEntity(text=f"search takes no such topk: {failure}") from None


def _documents(wanted: Retrieval, reply: ToolReply) -> bytes:
    """What a search found. Raises what refuses the request when it failed by no fault of its query."""
    fault = reply.fault
    if fault is not None and fault.kind.is_infrastructure:
        limited = fault.kind is ToolErrorKind.RATE_LIMITED
        failed = web.HTTPTooManyRequests if limited else web.HTTPServiceUnavailable
        raise failed(text=f"{fault.kind.value}: {fault.message}")
    try:
        return wanted.documents(reply)
    except ValueError as unfit:
        raise web.HTTPServiceUnavailable(text=f"search: {unfit}") from None


async def _json_body(request: web.Request) -> bytes:
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="send Content-Type: application/json")
    return await request.read()


def create_app(
    tools: Sequence[Tool],
    *,
    timeout_s: float,
    service: Service | None = None,
    token: str | None = None,
    local: bool = True,
) -> web.Application:
    """The adapter as an aiohttp application.

    timeout_s: the most seconds that one call may take from its turn on. service: what stands between calls and tools.
    token: if given, every request must bear it (`Authorization: Bearer TOKEN`). local: it listens on loopback alone,
    and refuses who calls it by another name, or asks on behalf of a web page of elsewhere.
    """
    routes = Routes(Adapter(tools, timeout_s, service))
    app = web.Application(client_max_size=protocol.MAX_BODY_BYTES, middlewares=guards(token, local=local))
    app.add_routes(
        [
            web.post("/v1/call", routes.call),
            web.post("/retrieve", routes.retrieve),
            web.get("/v1/tools", routes.tools),
            web.get("/healthz", routes.health),
            web.get("/metrics", routes.metrics),
            web.get("/openapi.json", routes.openapi),
        ]
    )
    return app


def runner_of(app: web.Application) -> web.AppRunner:
    """What serves it: calls of a client that has gone are given up, and nobody holds a connection for nothing."""
    return web.AppRunner(
        app,
        shutdown_timeout=SHUTDOWN_S,
        access_log=None,
        handler_cancellation=True,
        keepalive_timeout=IDLE_S,
        lingering_time=LINGER_S,
    )


async def serve(app: web.Application, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. `announce` gets the URL once the port (0: a free one) is open.

    Raises UserError when the address cannot be used.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runner = runner_of(app)
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
