"""The client against servers that fail in every way that a network allows."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from aiohttp import web

from rest_jax.config.settings import ToolsSettings
from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.core.errors import UserError
from rest_jax.tools import transport
from rest_jax.tools.client import ToolClient
from rest_jax.tools.protocol import LINES, Result, dump_result
from rest_jax.tools.registry import Tool
from rest_jax.tools.server import create_app

ServeApp = Callable[[Callable[[], web.Application]], str]


class Flaky:
    """A tool that fails a number of times and counts how often it ran."""

    def __init__(self, failures: int, *, stateful: bool = False) -> None:
        self.failures, self.stateful, self.runs = failures, stateful, 0

    async def run(self, arguments: Mapping[str, Any], episode: str) -> ToolReply:
        self.runs += 1
        if self.runs <= self.failures:
            raise ConnectionError("the provider hung up")
        return ToolReply("well")

    def app(self) -> web.Application:
        tool = Tool("flaky", "1", "", {"properties": {}, "required": []}, self.run, stateful=self.stateful)
        return create_app([tool], timeout_s=20)


class Raw:
    """A server that answers POST /v1/call by a list of handlers, one after another."""

    def __init__(self, *handlers: Any, stateful: tuple[str, ...] = ()) -> None:
        self.handlers, self.stateful, self.times = list(handlers), stateful, []

    async def call(self, request: web.Request) -> web.StreamResponse:
        self.times.append(time.monotonic())
        ids = [call["id"] for call in (await request.json())["calls"]]
        return await self.handlers.pop(0)(request, ids)

    async def health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "stateful": list(self.stateful)})

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.post("/v1/call", self.call), web.get("/healthz", self.health)])
        return app


async def well(request: web.Request, ids: list[int]) -> web.Response:
    return web.Response(body=b"".join(dump_result(Result(id, ToolReply("well"))) for id in ids), content_type=LINES)


async def half_then_dead(request: web.Request, ids: list[int]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": LINES})
    await response.prepare(request)
    for id in ids[: len(ids) // 2]:
        await response.write(dump_result(Result(id, ToolReply("first half"))))
    assert request.transport is not None
    request.transport.abort()
    return response


async def silent(request: web.Request, ids: list[int]) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def nonsense(request: web.Request, ids: list[int]) -> web.Response:
    return web.Response(text="<html>a captive portal</html>")


async def forgetful(request: web.Request, ids: list[int]) -> web.Response:
    return await well(request, ids[1:])


async def overloaded(request: web.Request, ids: list[int]) -> web.Response:
    return web.Response(status=503, text="later")


async def limiting(request: web.Request, ids: list[int]) -> web.Response:
    return web.Response(status=429, headers={"Retry-After": "1"})


def answers(url: str, settings: ToolsSettings, calls: int = 1, tool: str = "flaky") -> list[ToolReply]:
    with ToolClient(url, settings) as client:
        client.check()
        for id in range(calls):
            client.submit(id, tool, {}, "e")
        replies: dict[int, ToolReply] = {}
        while client.in_flight:
            replies.update(client.poll(None))
    return [replies[id] for id in range(calls)]


def kind(reply: ToolReply) -> ToolErrorKind | None:
    return reply.fault and reply.fault.kind


def test_passing_failures_are_retried(serve_app: ServeApp):
    flaky = Flaky(failures=2)
    (reply,) = answers(serve_app(flaky.app), ToolsSettings(retries=2))
    assert (reply.content, flaky.runs) == ("well", 3)


def test_retries_end(serve_app: ServeApp):
    flaky = Flaky(failures=10)
    (reply,) = answers(serve_app(flaky.app), ToolsSettings(retries=2))
    assert (kind(reply), flaky.runs) == (ToolErrorKind.INFRA, 3)
    assert reply.tool_version == "1"


def test_a_stateful_tool_is_never_repeated(serve_app: ServeApp):
    flaky = Flaky(failures=1, stateful=True)
    (reply,) = answers(serve_app(flaky.app), ToolsSettings())
    assert (kind(reply), flaky.runs) == (ToolErrorKind.INFRA, 1)
    raw = Raw(half_then_dead, well, stateful=("flaky",))
    replies = answers(serve_app(raw.app), ToolsSettings(), calls=4)
    assert [kind(reply) for reply in replies] == [None, None, ToolErrorKind.INFRA, ToolErrorKind.INFRA]
    assert len(raw.times) == 1


def test_results_before_a_reset_are_kept_and_the_rest_sent_again(serve_app: ServeApp):
    raw = Raw(half_then_dead, well)
    replies = answers(serve_app(raw.app), ToolsSettings(), calls=4)
    assert [reply.content for reply in replies] == ["first half", "first half", "well", "well"]


def test_calls_that_lose_the_adapter_twice_in_a_row_are_not_sent_again(serve_app: ServeApp):
    raw = Raw(half_then_dead, half_then_dead, well)
    replies = answers(serve_app(raw.app), ToolsSettings(retries=5), calls=4)
    assert [kind(reply) for reply in replies] == [None, None, None, ToolErrorKind.INFRA]
    assert len(raw.times) == 2
    raw = Raw(half_then_dead, overloaded, half_then_dead, well)
    replies = answers(serve_app(raw.app), ToolsSettings(retries=5), calls=4)
    assert [kind(reply) for reply in replies] == [None] * 4


def test_server_errors_and_missing_results_are_retried(serve_app: ServeApp):
    raw = Raw(overloaded, forgetful, well)
    replies = answers(serve_app(raw.app), ToolsSettings(), calls=3)
    assert [reply.content for reply in replies] == ["well"] * 3
    assert len(raw.times) == 3


def test_retry_after_is_respected(serve_app: ServeApp):
    raw = Raw(limiting, well)
    (reply,) = answers(serve_app(raw.app), ToolsSettings())
    assert reply.ok
    assert raw.times[1] - raw.times[0] >= 1.0
    (reply,) = answers(serve_app(Raw(limiting).app), ToolsSettings(retries=0))
    assert kind(reply) is ToolErrorKind.RATE_LIMITED


def test_a_silent_server_is_a_timeout(serve_app: ServeApp, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(transport, "GRACE_S", 0.1)
    raw = Raw(silent)
    (reply,) = answers(serve_app(raw.app), ToolsSettings(timeout_s=0.2))
    assert (kind(reply), len(raw.times)) == (ToolErrorKind.TIMEOUT, 1)


def test_another_protocol_is_not_retried(serve_app: ServeApp):
    raw = Raw(nonsense)
    (reply,) = answers(serve_app(raw.app), ToolsSettings())
    assert (kind(reply), len(raw.times)) == (ToolErrorKind.INFRA, 1)
    assert reply.fault is not None
    assert "does not speak this protocol" in reply.fault.message


def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with ToolClient(url, ToolsSettings(timeout_s=0.2)) as client:
            with pytest.raises(UserError, match=f"no tool adapter answers at {url} .*rest-jax tools serve") as error:
                client.check()
            assert "\n" not in str(error.value)
            client.submit(1, "search", {"query": "x"}, "e")
            ((id, reply),) = client.poll(None)
    assert (id, kind(reply)) == (1, ToolErrorKind.INFRA)


def test_polling(serve_app: ServeApp):
    url = serve_app(Raw(silent, silent).app)
    client = ToolClient(url, ToolsSettings())
    assert client.poll(None) == []
    client.submit(5, "flaky", {}, "e")
    assert client.in_flight == 1
    with pytest.raises(ValueError, match="5 is in flight"):
        client.submit(5, "flaky", {}, "e")
    assert client.poll(0.01) == []
    client.close()
    client.close()


def test_arguments_that_are_no_json_raise_instead_of_waiting_for_ever(serve_app: ServeApp):
    with ToolClient(serve_app(Raw().app), ToolsSettings()) as client:
        client.submit(1, "flaky", {"query": object()}, "e")
        with pytest.raises(TypeError, match="not JSON serializable"):
            client.poll(None)


def test_works_inside_a_running_loop(serve_app: ServeApp):
    url = serve_app(Raw(well).app)

    async def notebook() -> list[ToolReply]:
        return answers(url, ToolsSettings())

    assert json.dumps([reply.content for reply in asyncio.run(notebook())]) == '["well"]'


def test_it_says_when_an_episode_begins_and_begins_again(serve_app: ServeApp):
    said: list[bool] = []

    async def listening(request: web.Request, ids: list[int]) -> web.StreamResponse:
        said.extend(call.get("begins", False) for call in (await request.json())["calls"])
        return await (forgetful if len(said) == 3 else well)(request, ids)

    raw = Raw(*[listening] * 5, stateful=("act",))
    url = serve_app(raw.app)
    with ToolClient(url, ToolsSettings(retries=0)) as client:
        client.check()
        for id, tool in enumerate(("act", "act", "act", "act", "search")):
            client.submit(id, tool, {}, "e")
            client.poll(None)
    assert said == [True, False, False, True, False]
