"""A call's own time begins with its turn: who waits for one is not held to have run too long."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from rest_jax.config.settings import ToolsSettings
from rest_jax.core.effects import ToolReply
from rest_jax.tools.adapter import Adapter
from rest_jax.tools.bridges.functions import FunctionsSettings, open_functions
from rest_jax.tools.client import ToolClient
from rest_jax.tools.protocol import Call, Result
from rest_jax.tools.registry import Tool
from rest_jax.tools.sandbox.python import open_python
from rest_jax.tools.sandbox.settings import PythonSettings
from rest_jax.tools.server import create_app
from rest_jax.tools.turns import Turns

ServeApp = Callable[[Callable[[], web.Application]], str]

LONG_S = 600.0


async def nap(arguments: Mapping[str, Any], episode: str) -> ToolReply:
    await asyncio.sleep(arguments["seconds"])
    return ToolReply("rested")


def napping(*, at_once: int = 1) -> Tool:
    return Tool("nap", "1", "For tests.", {}, nap, turns=Turns(at_once))


def batch(url: str, deadline_s: float, *seconds: float) -> list[dict[str, Any]]:
    """The results of one batch of naps, in the order of its calls."""
    calls = [{"id": id, "tool": "nap", "arguments": {"seconds": nap_s}} for id, nap_s in enumerate(seconds)]
    body = json.dumps({"deadline_ms": 1000 * deadline_s, "calls": calls}).encode()
    request = urllib.request.Request(f"{url}/v1/call", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return sorted(json.load(response)["results"], key=lambda result: result["id"])


async def answers(tools: tuple[Tool, ...], limit_s: float, name: str, *arguments: dict[str, Any]) -> list[Result]:
    """What an adapter answers that allows a call so many seconds, and a batch all the time that it takes."""
    adapter = Adapter(tools, limit_s)
    return await asyncio.gather(*(adapter.answer(Call(0, name, each), LONG_S) for each in arguments))


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_client_gives_a_queue_the_time_that_it_takes(serve_app: ServeApp, at_once: int):
    """Eight naps of 0.3 s, none of which may take 1 s, one or two at a time: all of them take 2.4 or 1.2 s."""
    url = serve_app(lambda: create_app([napping(at_once=at_once)], timeout_s=1.0))
    with ToolClient(url, ToolsSettings(timeout_s=1.0, retries=0)) as client:
        assert client.check()["at_once"] == {"nap": at_once}
        began = time.monotonic()
        for id in range(8):
            client.submit(id, "nap", {"seconds": 0.3}, "e")
        replies: list[tuple[int, ToolReply]] = []
        while client.in_flight:
            replies += client.poll(None)
        took_s = time.monotonic() - began
    assert [(reply.content, reply.fault) for _, reply in replies] == [("rested", None)] * 8
    assert took_s >= 8 * 0.3 / at_once


def test_a_deadline_bounds_the_wait_and_the_wait_is_nobodys_timeout(serve_app: ServeApp):
    url = serve_app(lambda: create_app([napping()], timeout_s=LONG_S))
    first, *waited = batch(url, 0.5, LONG_S, 0.3, 0.3)
    assert first["error"] == {"kind": "timeout", "message": "nap took more than 0.5 s", "retryable": False}
    for result in waited:
        assert (result["error"]["kind"], result["error"]["retryable"]) == ("infra", True)


def test_a_call_whose_time_was_cut_by_its_wait_is_not_held_to_have_had_it(serve_app: ServeApp):
    url = serve_app(lambda: create_app([napping()], timeout_s=LONG_S))
    first, second = batch(url, 1.0, 0.4, LONG_S)
    assert first["ok"]
    assert (second["error"]["kind"], second["error"]["retryable"]) == ("infra", True)
    assert second["error"]["message"].startswith("nap had to wait, and had 0.")
    assert second["attempts"] == 1


def test_who_gives_up_waiting_leaves_the_queue():
    async def work() -> None:
        tool = napping()
        adapter = Adapter([tool], LONG_S)
        holding = asyncio.create_task(adapter.answer(Call(0, "nap", {"seconds": LONG_S}), LONG_S))
        await asyncio.sleep(0)
        waiting = [asyncio.create_task(adapter.answer(Call(1, "nap", {"seconds": 0}), LONG_S)) for _ in range(3)]
        await asyncio.sleep(0)
        for task in (waiting[0], holding):
            task.cancel()
        assert [(await task).reply.content for task in waiting[1:]] == ["rested", "rested"]

    asyncio.run(work())


def test_one_slot_and_more_programs_than_it():
    """Programs that never end, each with 0.4 s of its own; a call may take 2 s. The last one waits longer than that."""

    async def work() -> list[Result]:
        async with open_python(PythonSettings(tier="monty", concurrent=1)) as tools:
            return await answers(tools, 2.0, "python", *[{"code": "while True: pass", "timeout_s": 0.4}] * 7)

    results = asyncio.run(work())
    assert [result.reply.data.get("status") for result in results] == ["timeout"] * 7
    assert max(result.latency_ms for result in results) > 2_000


def test_functions_that_wait_for_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    module = tmp_path / "slow_tools.py"
    module.write_text(
        "import time\n"
        "def one() -> str:\n    time.sleep(0.3)\n    return 'one'\n"
        "def other() -> str:\n    time.sleep(0.3)\n    return 'other'\n"
        "async def free() -> str:\n    return 'free'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    async def work() -> list[str]:
        named = tuple(f"slow_tools:{name}" for name in ("one", "other", "free"))
        async with open_functions(FunctionsSettings(named, threads=1)) as tools:
            adapter = Adapter(tools, 1.0)
            names = ["one", "other"] * 3 + ["free"]
            asked = [adapter.answer(Call(0, name, {}), LONG_S) for name in names]
            return [result.reply.content for result in await asyncio.gather(*asked)]

    assert asyncio.run(work()) == ["one", "other"] * 3 + ["free"]
