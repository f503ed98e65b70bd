"""Tools fail in every way that they can while a Grow of 208 trajectories runs; what becomes of it.

In every case the Grow ends, no trajectory is lost or comes twice, no failure of the infrastructure earns a reward of 0,
and all that were not spoiled are, row for canonical row, those of a Grow without the fault (`unreliable.check`).
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from zlib import crc32

import pytest
from diary import REGISTER
from rollout_world import LIMITS, PROMPT
from unreliable import KEY, Provider, check, grow, serving, settings_of, tools_file

from rest_jax.core.effects import Agent, CallTool, Generate, Status, finished, stopped
from rest_jax.core.trajectory import Trajectory
from rest_jax.rollout.episode import Job
from rest_jax.tools import process, watch
from rest_jax.tools.client import ToolClient

FAULTS = ["500", "429", "timeout", "garbage", "slow-loris"]
# The core suite has the cheap part of the matrix: a kill, 429, lost sessions.
ONE_BY_ONE = [fault if fault == "429" else pytest.param(fault, marks=pytest.mark.slow) for fault in FAULTS]


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REST_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(KEY, "a key of the tests")


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serving(Provider()) as provider:
        yield provider


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> list[Trajectory]:
    """A Grow in which nothing fails."""
    folder = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch, serving(Provider()) as provider:
        patch.setenv(KEY, "a key of the tests")
        made = grow(folder, settings_of(tools_file(folder / "tools.yaml", provider)))
    assert {trajectory.status for trajectory in made} == {Status.FINISHED}
    assert all(trajectory.attempts == 1 and len(trajectory.tool_calls) == 2 for trajectory in made)
    return made


def at(number: int, do: Callable[[ToolClient], None]) -> Callable[[int, ToolClient], None]:
    """Do something once so many trajectories have ended."""
    return lambda done, tools: do(tools) if done == number else None


def send(number: int) -> Callable[[ToolClient], None]:
    """Send the adapter a signal."""
    return lambda tools: os.kill(tools.check()["pid"], number)


def test_the_adapter_is_killed(provider: Provider, sound: list[Trajectory], tmp_path: Path):
    config = tools_file(tmp_path / "tools.yaml", provider)
    assert check(grow(tmp_path, settings_of(config), at(60, send(signal.SIGKILL))), sound) == []
    record = watch.read(tmp_path)
    assert record is not None
    assert record.restarts == 1


@pytest.mark.slow
def test_the_adapter_hangs(
    provider: Provider, sound: list[Trajectory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(process, "SILENCE_S", 3.0)
    monkeypatch.setattr(process, "LOOK_S", 0.2)
    config = tools_file(tmp_path / "tools.yaml", provider)
    assert check(grow(tmp_path, settings_of(config), at(60, send(signal.SIGSTOP))), sound) == []
    assert "the adapter was silent for 3 s: killed" in (tmp_path / "tools.log").read_text()


@pytest.mark.parametrize("fault", ONE_BY_ONE)
def test_the_provider_fails_for_a_while(fault: str, provider: Provider, sound: list[Trajectory], tmp_path: Path):
    provider.fault = lambda number, query: fault if 100 < number <= 125 else ""
    config = tools_file(tmp_path / "tools.yaml", provider)
    assert check(grow(tmp_path, settings_of(config)), sound) == []
    assert provider.met == {fault: 25}


@pytest.mark.slow
def test_the_provider_fails_in_every_way_and_some_queries_always(
    provider: Provider, sound: list[Trajectory], tmp_path: Path
):
    def cursed(query: str) -> bool:
        return crc32(query.encode()) % 16 == 0

    def fault(number: int, query: str) -> str:
        if cursed(query):
            return "500"
        drawn = crc32(f"{number} {query}".encode()) % 60
        return FAULTS[drawn] if drawn < len(FAULTS) else ""

    provider.fault = fault
    config = tools_file(tmp_path / "tools.yaml", provider, breaker={"failures": 50, "pause_s": 0.3})
    hopeless = {t.id for t in sound if any(cursed(call.arguments["query"]) for call in t.tool_calls)}
    assert 5 <= len(hopeless) <= 60
    masked = check(grow(tmp_path, settings_of(config, retries=0)), sound)
    assert {trajectory.id for trajectory in masked} == hopeless
    assert all("serper answered 500" in trajectory.why for trajectory in masked)
    assert set(provider.met) == set(FAULTS)


@pytest.mark.slow
def test_the_disk_is_full_for_the_cache(provider: Provider, sound: list[Trajectory], tmp_path: Path):
    path = tmp_path / "tools.sqlite"
    config = tools_file(tmp_path / "tools.yaml", provider, cache={"path": str(path)})

    def fill(tools: ToolClient) -> None:
        """From now on no file of the adapter may grow beyond 8 kB."""
        resource.prlimit(tools.check()["pid"], resource.RLIMIT_FSIZE, (8192, 8192))

    assert check(grow(tmp_path, settings_of(config), at(60, fill)), sound) == []
    assert provider.asked == 2 * len(sound)
    assert (tmp_path / "tools.log").read_text().count("is off from here on (") == 1


@pytest.mark.slow
def test_the_clock_jumps(provider: Provider, sound: list[Trajectory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Ten years ahead, and eleven back, as the adapter sees it; its cache is asked again after each jump."""
    jump = tmp_path / "jump"
    jump.write_text("0")
    (tmp_path / "sitecustomize.py").write_text(
        f"import time\nreal = time.time\ntime.time = lambda: real() + float(open({str(jump)!r}).read())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)  # the adapter inherits our path
    path = tmp_path / "tools.sqlite"
    config = tools_file(tmp_path / "tools.yaml", provider, cache={"path": str(path)})
    jumps = {40: "315576000", 120: "-31557600"}

    def during(done: int, tools: ToolClient) -> None:
        if done in jumps:
            (tmp_path / "next").write_text(jumps[done])
            (tmp_path / "next").replace(jump)  # at once: the clock is read all the time

    assert check(grow(tmp_path, settings_of(config), during), sound) == []
    with sqlite3.connect(path) as database:
        (first, last) = database.execute("SELECT min(at), max(at) FROM answers").fetchone()
    database.close()
    assert last - first > 300_000_000
    asked = provider.asked
    again = tmp_path / "again"
    again.mkdir()
    assert check(grow(again, settings_of(config)), sound) == []
    # Of eleven years ago are the latest answers alone: the others are from the future, and asked anew.
    assert 0 < provider.asked - asked < 2 * len(sound)
    assert "Traceback" not in (again / "tools.log").read_text()


def keep_a_diary(job: Job) -> Agent:
    """Writes a line a turn, and answers with all of them."""
    transcript = PROMPT.open(job.question.text)
    yield CallTool("begin", {})
    for turn in range(3):
        reply = yield Generate(transcript, step="act", max_tokens=LIMITS.turn_tokens, stop=PROMPT.stop)
        seen = yield CallTool("write", {"line": f"{turn} {reply.text}"})
        if not seen.ok:
            return stopped(Status.TOOL_FAILURE, seen.fault.message)
        transcript = PROMPT.observe(transcript.said(reply), seen.content)
    return finished(seen.content)


def test_sessions_are_lost_and_what_was_recorded_is_replayed_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Those whose session went with its adapter begin again; nobody goes on in an empty one."""
    (tmp_path / "sitecustomize.py").write_text(REGISTER)
    monkeypatch.syspath_prepend(tmp_path)  # the adapter inherits our path
    folders = [tmp_path / name for name in ("sound", "disturbed", "replayed")]
    for folder in folders:
        folder.mkdir()
    config = tmp_path / "tools.yaml"
    config.write_text("tools: [{kind: diary}]")
    cassette = str(tmp_path / "cassette")
    sound = grow(folders[0], settings_of(config), agent=keep_a_diary)
    assert {trajectory.attempts for trajectory in sound} == {1}
    assert all(trajectory.answer.split()[0] == "0" for trajectory in sound)
    killed = at(60, send(signal.SIGKILL))
    disturbed = grow(folders[1], settings_of(config, mode="record", cassette=cassette), killed, keep_a_diary)
    assert check(disturbed, sound) == []
    assert any(trajectory.attempts > 1 for trajectory in disturbed)
    config.unlink()
    replayed = grow(folders[2], settings_of(config, mode="replay", cassette=cassette), agent=keep_a_diary)
    assert check(replayed, sound) == []
    assert {trajectory.attempts for trajectory in replayed} == {1}


@pytest.mark.slow
def test_a_grow_that_is_recorded_is_replayed_without_its_provider(
    provider: Provider, sound: list[Trajectory], tmp_path: Path
):
    provider.fault = lambda number, query: "500" if number % 7 == 0 else ""
    config = tools_file(tmp_path / "tools.yaml", provider)
    cassette = tmp_path / "cassette"
    record = settings_of(config, mode="record", cassette=str(cassette))
    killed = at(60, send(signal.SIGKILL))
    assert check(grow(tmp_path, record, killed), sound) == []
    assert json.loads((cassette / "manifest.json").read_text())["calls"] == 2 * len(sound)
    assert "a key of the tests" not in (cassette / "manifest.json").read_text()
    asked = provider.asked
    config.unlink()
    replay = settings_of(config, mode="replay", cassette=str(cassette))
    (tmp_path / "again").mkdir()
    assert check(grow(tmp_path / "again", replay), sound) == []
    assert provider.asked == asked


@pytest.mark.slow
def test_a_budget_that_is_spent_stops_the_calls_and_says_so(
    provider: Provider, sound: list[Trajectory], tmp_path: Path
):
    config = tools_file(tmp_path / "tools.yaml", provider, dollars=0.2)
    troubles: list[str] = []

    def during(done: int, tools: ToolClient) -> None:
        if done in (60, len(sound)):
            troubles.append(tools.check()["trouble"])
        if done == 60:
            os.kill(tools.check()["pid"], signal.SIGKILL)  # what it has spent is not forgotten

    masked = check(grow(tmp_path, settings_of(config), during), sound)
    assert provider.asked == 200
    assert len(masked) >= len(sound) - 100
    assert all("the budget of $0.2 is spent" in trajectory.why for trajectory in masked)
    assert troubles[0] == ""
    assert "raise service.dollars" in troubles[1]
