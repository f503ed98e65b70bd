"""A search provider that fails as it is told to, and a Grow that asks it by way of a real adapter process."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from rollout_world import LIMITS, PROMPT, SAMPLING, HashPolicy, jobs

from rest_jax.agents.react import react
from rest_jax.config.settings import ToolsSettings
from rest_jax.core.effects import Agent, Role, Status
from rest_jax.core.schema import canonical_row
from rest_jax.core.trajectory import Question, Trajectory
from rest_jax.rollout.episode import Job
from rest_jax.rollout.journal import Journal
from rest_jax.rollout.runner import rollout
from rest_jax.tasks.rewards import answer_reward
from rest_jax.tools.client import ToolClient
from rest_jax.tools.process import adapter

N = 208
"""Trajectories of a Grow: 104 questions, two samples each."""

KEY = "SERPER_API_KEY"


@dataclass
class Provider:
    """Answers as Serper does. `fault` says how a request is treated, by its number (from 1) and its query."""

    fault: Callable[[int, str], str] = lambda number, query: ""
    url: str = ""
    asked: int = 0
    met: Counter[str] = field(default_factory=Counter)
    """How often each fault was met."""

    async def search(self, request: web.Request) -> web.StreamResponse:
        query = (await request.json())["q"]
        self.asked += 1
        fault = self.fault(self.asked, query)
        if fault:
            self.met[fault] += 1
        match fault:
            case "500":
                return web.Response(status=500, text="<html>an error</html>")
            case "429":
                return web.json_response({"message": "slow down"}, status=429, headers={"Retry-After": "1"})
            case "timeout":
                await asyncio.Event().wait()
            case "garbage":
                return web.Response(body=b'{"organic": [{"title"', content_type="application/json")
            case "slow-loris":
                response = web.StreamResponse(headers={"Content-Type": "application/json"})
                await response.prepare(request)
                while True:
                    await response.write(b" ")
                    await asyncio.sleep(0.02)
        result = {"title": query, "link": f"https://example.org/{query}", "snippet": f"All about {query}."}
        return web.json_response({"organic": [result]})


@contextmanager
def serving(provider: Provider) -> Iterator[Provider]:
    """The provider answers at its `url` for the length of a block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    app = web.Application()
    app.router.add_post("/search", provider.search)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)

    async def start() -> str:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}/search"

    provider.url = asyncio.run_coroutine_threadsafe(start(), loop).result()
    try:
        yield provider
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def tools_file(path: Path, provider: Provider, **service: object) -> Path:
    """A tools.yaml that asks this provider, and does not wait long for it."""
    settings = {
        "tools": [{"kind": "serper", "url": provider.url, "timeout_s": 2.0}],
        "service": {
            "cache": None,
            "limits": [{"provider": "serper", "at_once": 64}],
            "retries": {"first_s": 0.05, "last_s": 0.2},
            "breaker": {"pause_s": 0.3},
            **service,
        },
    }
    path.write_text(yaml.safe_dump(settings))
    return path


def searching(job: Job) -> Agent:
    return react(job.question, PROMPT, LIMITS)


def grow(
    folder: Path,
    settings: ToolsSettings,
    during: Callable[[int, ToolClient], None] = lambda done, tools: None,
    agent: Callable[[Job], Agent] = searching,
) -> list[Trajectory]:
    """The trajectories of a Grow in the order in which they ended; `during` is called after each."""
    made = []
    with (
        adapter(settings, folder / "no corpus", log=folder / "tools.log") as (url, token),
        ToolClient(url, settings, token) as tools,
        Journal(folder / "journal.jsonl") as journal,
    ):
        tools.check()
        for trajectory in rollout(
            jobs(N // 2),
            agent,
            {Role.ACTOR: HashPolicy(sessions=32)},
            tools,
            sampling=SAMPLING,
            journal=journal,
        ):
            made.append(trajectory)
            during(len(made), tools)
    return made


def row(trajectory: Trajectory) -> dict[str, Any]:
    """The canonical row, but for the tools' versions: they name the provider's address, another one in each test."""
    whole = canonical_row(trajectory)
    calls = [{name: value for name, value in call.items() if name != "tool_version"} for call in whole["tool_calls"]]
    return {**whole, "tool_calls": calls}


def check(made: list[Trajectory], sound: list[Trajectory]) -> list[Trajectory]:
    """That no trajectory is lost or came twice, that each is either masked, and without a reward, or row for canonical
    row what it is in a `sound` Grow. Returns the masked ones.

    The gold answer is what the sound trajectory answered: whatever a fault spoiled would show as a reward of 0.
    """
    expected = {trajectory.id: trajectory for trajectory in sound}
    assert sorted(trajectory.id for trajectory in made) == sorted(expected)
    assert len(expected) == N
    masked = []
    for trajectory in made:
        gold = expected[trajectory.id]
        reward = answer_reward(trajectory, Question(gold.question_id, gold.question, gold.answer or ""))
        if trajectory.status is Status.TOOL_FAILURE:
            assert reward is None
            masked.append(trajectory)
        else:
            assert row(trajectory) == row(gold)
            assert reward == 1.0
    return masked


def settings_of(config: Path, **rest: object) -> ToolsSettings:
    return replace(ToolsSettings(config=str(config), timeout_s=20), **rest)
