"""Whoever sends slowly, too much or in vain is cut off, and learns nothing; the others are served meanwhile."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from rest_jax.config.settings import ToolsSettings
from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.tools import guards, protocol, server
from rest_jax.tools.client import ToolClient
from rest_jax.tools.registry import Tool
from rest_jax.tools.server import create_app

ServeApp = Callable[[Callable[[], web.Application]], str]

PATIENCE_S = 60
"""No socket of these tests may be silent for so long."""


async def give(arguments: Mapping[str, Any], episode: str) -> ToolReply:
    return {
        "long": ToolReply("🦊" * 100_000),
        "some": ToolReply("", {"text": "x" * 60_000}),
        "much": ToolReply("", {"text": "x" * protocol.MAX_RESULT_BYTES}),
        "nan": ToolReply("", {"score": float("nan")}),
        "object": ToolReply("", {"of": object()}),
        "well": ToolReply("well"),
    }[arguments["what"]]


@pytest.fixture
def url(serve_app: ServeApp) -> str:
    return serve_app(lambda: create_app([Tool("give", "1", "For tests.", {}, give)], timeout_s=20))


def connected(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE_S)


def all_of(connection: socket.socket) -> bytes:
    said = b""
    while received := connection.recv(65_536):
        said += received
    return said


async def well(arguments: Mapping[str, Any], episode: str) -> ToolReply:
    return ToolReply("well")


def asked(url: str, *what: str, retries: int = 0) -> list[ToolReply]:
    with ToolClient(url, ToolsSettings(retries=retries)) as client:
        client.check()
        for id, each in enumerate(what):
            client.submit(id, "give", {"what": each}, "e")
        replies: dict[int, ToolReply] = {}
        while client.in_flight:
            replies.update(client.poll(None))
    return [replies[id] for id in range(len(what))]


def test_headers_that_never_end_end_the_connection(serve_app: ServeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE_S", 0.3)
    url = serve_app(lambda: create_app([Tool("give", "1", "For tests.", {}, give)], timeout_s=20))
    with connected(url) as slow, connected(url) as silent:
        slow.sendall(b"POST /v1/call HTTP/1.1\r\nHost: localhost\r\nX-Slow: a")
        assert all_of(slow) == b""
        assert all_of(silent) == b""
    assert asked(url, "well")[0].content == "well"


def test_a_body_that_never_comes_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "BODY_S", 0.3)
    monkeypatch.setattr(server, "LINGER_S", 0.1)
    head = b"POST /v1/call HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    with connected(url) as slow:
        slow.sendall(head)
        said = slow.recv(65_536)
        assert asked(url, "well")[0].content == "well"  # nobody else waits for it
    assert said.startswith(b"HTTP/1.1 408 ")
    assert said.endswith(b'{"error": "the body did not arrive within 0.3 s"}')


@pytest.mark.parametrize("line", [b"X: " + b"a" * 20_000, b"\r\n".join([b"A: b"] * 500), b"no header"])
def test_headers_that_will_not_do_are_refused_without_a_traceback(url: str, line: bytes) -> None:
    with connected(url) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + line + b"\r\n\r\n")
        said = all_of(connection)
    assert said.split()[1] == b"400"
    assert b"Traceback" not in said


def test_a_defect_of_the_adapter_shows_no_more_than_that(
    serve_app: ServeApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def secretive() -> dict[str, Any]:
        raise RuntimeError("the key is 1234")

    monkeypatch.setattr(server, "openapi", secretive)
    url = serve_app(lambda: create_app([], timeout_s=20))
    with connected(url) as connection:
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        head, _, body = all_of(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 ")
    assert json.loads(body) == {"error": "the adapter failed; its log says why"}
    assert "the key is 1234" in caplog.text


def test_a_client_sends_again_what_had_no_room(serve_app: ServeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_REPLY_BYTES", 200_000)
    monkeypatch.setattr(protocol, "ROOMY_CALLS", 3)
    url = serve_app(lambda: create_app([Tool("give", "1", "For tests.", {}, give)], timeout_s=20))
    assert [reply.ok for reply in asked(url, *["some"] * 20, retries=1)] == [True] * 20


def test_but_not_of_a_stateful_tool(serve_app: ServeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_REPLY_BYTES", 200_000)
    tool = Tool("give", "1", "For tests.", {}, give, stateful=True)
    url = serve_app(lambda: create_app([tool], timeout_s=20))
    assert sum(reply.ok for reply in asked(url, *["some"] * 7, retries=1)) == 3


def test_a_client_sends_no_more_than_an_adapter_takes(serve_app: ServeApp) -> None:
    tool = Tool("give", "1", "For tests.", {}, give)
    url = serve_app(lambda: create_app([replace(tool, run=well)], timeout_s=20))
    long = "é" * (protocol.MAX_BODY_BYTES // 60)  # six bytes each
    assert [reply.content for reply in asked(url, *[long] * 25)] == ["well"] * 25


def test_replies_that_are_too_much_together_are_failures(serve_app: ServeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_REPLY_BYTES", 200_000)  # room for three of seven
    url = serve_app(lambda: create_app([Tool("give", "1", "For tests.", {}, give)], timeout_s=20))
    calls = [{"id": id, "tool": "give", "arguments": {"what": "some"}} for id in range(7)]
    body = json.dumps({"deadline_ms": 9_000, "calls": calls}).encode()
    head = f"POST /v1/call HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    with connected(url) as connection:
        connection.sendall(head.encode() + b"\r\nConnection: close\r\n\r\n" + body)
        results = json.loads(all_of(connection).partition(b"\r\n\r\n")[2])["results"]
    assert sum(result["ok"] for result in results) == 3
    refused = [result["error"] for result in results if not result["ok"]]
    assert len(refused) == 4
    assert all("longer than 200000 bytes" in error["message"] and error["retryable"] for error in refused)


def test_a_reply_that_cannot_be_sent_is_the_tools_failure_alone(url: str) -> None:
    much, nan, thing, long, well = asked(url, "much", "nan", "object", "long", "well")
    for reply, says in ((much, "is longer than 2097152"), (nan, "no JSON"), (thing, "no JSON")):
        assert reply.fault is not None
        assert reply.fault.kind is ToolErrorKind.INFRA
        assert says in reply.fault.message
        assert reply.tool_version == "1"
    assert long.content == "🦊" * protocol.MAX_CONTENT_CHARS
    assert well.content == "well"


def status_of(url: str, *headers: str, version: str = "1.1") -> int:
    lines = [f"GET /healthz HTTP/{version}", *headers, "Connection: close", "", ""]
    with connected(url) as connection:
        connection.sendall("\r\n".join(lines).encode())
        return int(all_of(connection).split()[1])


@pytest.mark.parametrize("host", ["localhost", "LocalHost:80", "127.0.0.1:8765", "127.9.9.9", "[::1]:8765"])
@pytest.mark.parametrize("origin", [(), ("Origin: http://localhost:3000",), ("Origin: http://127.0.0.1",)])
def test_on_loopback_programs_of_this_machine_are_answered(url: str, host: str, origin: tuple[str, ...]) -> None:
    assert status_of(url, f"Host: {host}", *origin) == 200


@pytest.mark.parametrize("host", ["pages.example:8765", "localhost.pages.example", "10.0.0.7", "0.0.0.0", "[", ""])
def test_but_not_who_calls_it_by_another_name(serve_app: ServeApp, url: str, host: str) -> None:
    """A page's owner may have his own name resolve to loopback."""
    assert status_of(url, f"Host: {host}") == 403
    assert status_of(serve_app(lambda: create_app([], timeout_s=20, local=False)), f"Host: {host}") == 200


def test_nor_who_calls_it_by_no_name(url: str) -> None:
    assert status_of(url, version="1.0") == 403


@pytest.mark.parametrize("origin", ["https://pages.example", "http://localhost.pages.example", "null", "file://"])
def test_nor_a_web_page(url: str, origin: str) -> None:
    assert status_of(url, "Host: localhost", f"Origin: {origin}") == 403
    assert status_of(url, "Host: localhost", "Origin: http://localhost", f"Origin: {origin}") == 403


def test_and_says_so_in_one_line(url: str) -> None:
    with connected(url) as connection:
        connection.sendall(b"POST /v1/call HTTP/1.1\r\nHost: pages.example\r\nConnection: close\r\n\r\n")
        said = all_of(connection)
    assert said.endswith(
        b'{"error": "this adapter answers programs of its own machine: ask localhost, from no web page"}'
    )


@pytest.mark.parametrize("header", [b"", b"Authorization: Bearer wrong\r\n", b"Authorization: Bearer \xff\r\n"])
def test_every_route_needs_the_token(serve_app: ServeApp, header: bytes) -> None:
    url = serve_app(lambda: create_app([], timeout_s=20, token="secret"))
    for route in (
        b"GET /healthz",
        b"GET /v1/tools",
        b"GET /metrics",
        b"GET /openapi.json",
        b"POST /v1/call",
        b"GET /no",
    ):
        with connected(url) as connection:
            connection.sendall(route + b" HTTP/1.1\r\nHost: localhost\r\n" + header + b"Connection: close\r\n\r\n")
            said = all_of(connection)
        assert said.split()[1] == b"401", route
        assert said.endswith(b'{"error": "send Authorization: Bearer TOKEN"}')
