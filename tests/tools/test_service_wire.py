"""What stands between a call and its tool, seen from the wire, from the command line and from a file of tools."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from service_world import Backend, FakeTime, down

from rest_jax.config.limits import checked
from rest_jax.config.settings import ToolsSettings
from rest_jax.core.errors import UserError
from rest_jax.tools.agreement import refuse_trouble
from rest_jax.tools.client import ToolClient
from rest_jax.tools.registry import Tool
from rest_jax.tools.server import create_app
from rest_jax.tools.service.cache import Cache
from rest_jax.tools.service.query import Clock, Trouble
from rest_jax.tools.service.service import Service, asking
from rest_jax.tools.service.settings import CacheSettings, ProviderLimits, RetrySettings, ServiceSettings
from rest_jax.tools.settings import read_settings

ServeApp = Callable[[Callable[[], web.Application]], str]

ROOT = Path(__file__).parents[2]
SETTINGS = ToolsSettings(retries=0)


def call(url: str, *queries: str, tool: str = "search") -> list[dict[str, Any]]:
    """The results of one batch, in the order of its calls."""
    calls = [
        {"id": id, "episode": "e", "tool": tool, "arguments": {"query": query}} for id, query in enumerate(queries)
    ]
    body = json.dumps({"deadline_ms": 20_000, "calls": calls}).encode()
    request = urllib.request.Request(f"{url}/v1/call", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return sorted(json.load(response)["results"], key=lambda result: result["id"])


def remembering(serve_app: ServeApp, path: Path, tool: Tool) -> str:
    """The URL of an adapter of one tool with a cache."""

    def make_app() -> web.Application:
        cache = Cache(CacheSettings(str(path)))
        app = create_app([tool], timeout_s=20, service=Service(memories=[cache]))

        async def close(app: web.Application) -> None:
            await cache.close()

        app.on_cleanup.append(close)
        return app

    return serve_app(make_app)


def test_64_equal_queries_at_once_are_one_call_of_the_backend(serve_app: ServeApp, tmp_path: Path):
    backend = Backend()
    url = remembering(serve_app, tmp_path / "tools.sqlite", backend.tool(version="7"))
    with ToolClient(url, SETTINGS) as one, ToolClient(url, SETTINGS) as other:
        for id in range(64):
            (one, other)[id % 2].submit(id, "search", {"query": "x"}, f"e{id}")
        replies = []
        for client in (one, other):
            while client.in_flight:
                replies += client.poll(None)
    assert len(backend.calls) == 1
    assert {(reply.content, reply.tool_version) for _, reply in replies} == {("about x", "7")}
    assert len(replies) == 64
    results = call(url, "x", "y", "x")
    assert [(result["cache"], result["attempts"]) for result in results] == [("hit", 0), ("miss", 1), ("hit", 0)]
    with urllib.request.urlopen(f"{url}/metrics") as response:
        assert 'rest_jax_tool_calls_total{tool="search",outcome="ok",cache="miss"} 2' in response.read().decode()


def test_a_batch_knows_wrong_arguments_and_unknown_tools_beside_what_is_remembered(serve_app: ServeApp, tmp_path: Path):
    url = remembering(serve_app, tmp_path / "tools.sqlite", Backend().tool())
    call(url, "x")
    calls = [
        {"id": 0, "tool": "search", "arguments": {"query": 7}},
        {"id": 1, "tool": "find", "arguments": {"query": "x"}},
        {"id": 2, "tool": "search", "arguments": {"query": "x"}},
        {"id": 3, "tool": "search", "arguments": {"query": "\ud800"}},
    ]
    body = json.dumps({"deadline_ms": 20_000, "calls": calls}).encode()
    request = urllib.request.Request(f"{url}/v1/call", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        results = {result["id"]: result for result in json.load(response)["results"]}
    assert results[2]["cache"] == "hit"
    assert [results[id]["error"]["kind"] for id in (0, 1, 3)] == ["bad_arguments"] * 3


def test_attempts_and_what_may_be_tried_again_are_told(serve_app: ServeApp):
    backend, trouble = Backend(*(down() for _ in range(4))), Trouble()
    settings = ServiceSettings(cache=None, retries=RetrySettings(attempts=2), dollars=0.5)

    def make_app() -> web.Application:
        service = Service(asking(settings, {}, trouble=trouble, clock=Clock(sleep=FakeTime().sleep)), trouble=trouble)
        return create_app([backend.tool(cost=0.1)], timeout_s=20, service=service)

    url = serve_app(make_app)
    (failed,) = call(url, "x")
    assert failed["error"] == {"kind": "infra", "message": "503", "retryable": False}  # the service has retried it
    assert failed["attempts"] == 2
    with ToolClient(url, SETTINGS) as client:
        refuse_trouble(client.check())
        call(url, "x")
        (poor,) = call(url, "x")
        assert poor["attempts"] == 1
        (poor,) = call(url, "y")
        assert (poor["error"]["kind"], poor["error"]["retryable"]) == ("infra", False)
        assert "the budget of $0.5 is spent" in poor["error"]["message"]
        with pytest.raises(UserError, match=r"cannot go on: the budget of \$0\.5 is spent: .*raise service\.dollars"):
            refuse_trouble(client.check())
    assert len(backend.calls) == 5


def test_a_service_is_read_strictly(tmp_path: Path):
    path = tmp_path / "tools.yaml"
    tools = "tools: [{kind: corpus, path: c.jsonl}]\n"
    path.write_text(
        tools + "service:\n  cache: null\n  limits: [{provider: serper, per_second: 2}]\n"
        "  retries: {attempts: 5}\n  dollars: 3\n"
    )
    assert read_settings(path).service == ServiceSettings(
        cache=None, limits=(ProviderLimits("serper", per_second=2),), retries=RetrySettings(attempts=5), dollars=3
    )
    for service, says in (
        ("{retires: {attempts: 5}}", r"tools\.yaml:2:11: unknown key 'retires' in service; did you mean 'retries'\?"),
        ("{retries: {attempts: 0}}", r"tools\.yaml:2:31: service\.retries\.attempts: expected at least 1, got 0"),
        ("{limits: [{per_second: 2}]}", r"tools\.yaml:2:20: service\.limits\.0: key 'provider' is missing"),
        (
            "{limits: [{provider: a}, {provider: a}]}",
            r"tools\.yaml:2:19: service\.limits: provider a stands there 2 times; leave one",
        ),
        ("{retries: {first_s: 9}}", r"tools\.yaml:2:20: service\.retries\.last_s: 8 is less than first_s \(9\)"),
    ):
        path.write_text(f"{tools}service: {service}\n")
        with pytest.raises(UserError, match=says):
            read_settings(path)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (ToolsSettings(mode="replay"), "tools.cassette: goes with mode record or replay"),
        (ToolsSettings(cassette="c"), "tools.cassette: goes with mode record or replay"),
        (
            ToolsSettings(mode="record", cassette="c", url="http://h"),
            r"tools.mode: .* `rest-jax tools record` or `replay`",
        ),
    ],
)
def test_settings_that_do_not_go_together(settings: ToolsSettings, says: str):
    with pytest.raises(UserError, match=says):
        checked(settings, "tools")


def command(*arguments: str, cache: Path) -> subprocess.Popen[str]:
    """`rest-jax tools …` as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "rest_jax.cli.main", "tools", *arguments, "--port=0"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "REST_JAX_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def announced(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    return json.loads(line)["url"]


def stop(process: subprocess.Popen[str]) -> str:
    """What it said on stderr until it ended well."""
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 0
    return errors


def test_an_adapter_records_and_another_replays(tmp_path: Path):
    corpus, cassette = tmp_path / "corpus.jsonl", tmp_path / "cassette"
    corpus.write_text('{"title": "Vell", "text": "Vell is a town."}\n')
    process = command("record", str(cassette), f"--corpus={corpus}", cache=tmp_path)
    url = announced(process)
    recorded = call(url, "vell", "nothing")
    with ToolClient(url, SETTINGS) as client:
        health = client.check()
    stop(process)
    corpus.unlink()
    process = command("replay", str(cassette), cache=tmp_path)
    url = announced(process)
    replayed = call(url, "vell", "nothing")
    (missed,) = call(url, "other")
    with ToolClient(url, SETTINGS) as client:
        again = client.check()
    errors = stop(process)
    told = ("content", "data", "error", "tool_version")
    assert [[result[name] for name in told] for result in replayed] == [
        [result[name] for name in told] for result in recorded
    ]
    assert [result["cache"] for result in replayed] == ["replay"] * 2
    assert {name: again[name] for name in ("tools", "stateful", "about")} == {
        name: health[name] for name in ("tools", "stateful", "about")
    }
    assert missed["error"]["kind"] == "replay_miss"
    assert f'replay miss: {cassette} holds no answer to search {{"query": "other"}}' in errors


def test_a_cassette_that_is_not_there_is_one_line_for_the_user(tmp_path: Path):
    process = command("replay", str(tmp_path / "none"), cache=tmp_path)
    _, errors = process.communicate()
    assert process.returncode == 2
    assert f"{tmp_path / 'none'}: not a finished cassette (no manifest.json); check the path" in errors
    assert "Traceback" not in errors
