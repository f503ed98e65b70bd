"""TextWorld's games as stateful tools: a real engine in a real process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from episodes import Ask, fault, with_tools

from rest_jax.config.settings import ToolsSettings
from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.core.errors import UserError
from rest_jax.tools.client import ToolClient
from rest_jax.tools.environments.games import GAME, TextWorldSettings, open_textworld
from rest_jax.tools.process import adapter
from tests.waiting import wait_until

pytest.importorskip("textworld", reason="extra `textworld` is not installed")

SMALL = TextWorldSettings(games=2, rooms=2, objects=4, quest_length=2)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder that holds game 0 after the first test that wants it."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("REST_JAX_CACHE", str(folder))
        yield folder


def with_games(settings: TextWorldSettings, work: Callable[[Ask], Awaitable[None]]) -> None:
    with_tools(open_textworld(settings), work)


def walkthrough(cache: Path, seed: int = 0) -> list[str]:
    """The commands that win a game, as TextWorld notes them beside it."""
    (made,) = cache.glob(f"textworld/*/{seed}/{GAME}")
    return json.loads(made.with_suffix(".json").read_text())["metadata"]["walkthrough"]


def test_a_game_is_won_in_each_of_several_episodes(cache: Path):
    async def work(ask: Ask) -> None:
        commands = walkthrough(cache)
        episodes = [f"q{i}#0" for i in range(6)]
        first = await asyncio.gather(*(ask("reset", episode, game=0) for episode in episodes))
        assert len({reply.content for reply in first}) == 1
        assert first[0].content.partition("-= ")[0].strip()  # the goal stands before the room
        assert "$$" not in first[0].content
        assert (first[0].data["score"], first[0].data["max_score"], first[0].data["done"]) == (0, 1, False)
        assert commands[0] in first[0].data["admissible_commands"]
        for at, command in enumerate(commands, start=1):
            replies = await asyncio.gather(*(ask("act", episode, command=command) for episode in episodes))
            assert len({json.dumps([reply.content, reply.data]) for reply in replies}) == 1
            assert ">" not in replies[0].content
            assert replies[0].data["done"] is (at == len(commands))
        assert (replies[0].data["won"], replies[0].data["score"]) == (True, 1)
        over = await ask("act", episodes[0], command="look")
        assert (over.content, over.data["done"], over.data["score"]) == ("The game is over.", True, 1)
        again = await ask("reset", episodes[0], game=0)
        assert (again.content, again.data) == (first[0].content, first[0].data)
        assert (await ask("act", episodes[0], command="look")).data["done"] is False
        assert (await ask("act", episodes[1], command="look")).data["done"] is True

    with_games(SMALL, work)


def test_commands_beyond_the_world_never_reach_it_and_sessions_are_few(cache: Path):
    async def work(ask: Ask) -> None:
        kind, message = fault(await ask("act", command="look"))
        assert kind is ToolErrorKind.INFRA
        assert message.startswith("session lost: the episode has none here")
        begun = await ask("reset", game=0)
        for command in ("save", "restore", "QUIT", "restart", "undo", "tw-print score", "", "y"):
            assert (await ask("act", command=command)).content == "That's not a verb I recognise."
        for command in ("look then save", "look at. save", "look at, save", "look \x00"):
            assert (await ask("act", command=command)).content == "One command at a time, in plain words."
        looked = await ask("act", command=" Look. ")
        assert looked.content.startswith("-= ")
        assert looked.data == begun.data
        assert fault(await ask("act", command="x" * 201))[0] is ToolErrorKind.BAD_ARGUMENTS
        assert fault(await ask("reset", game=2))[0] is ToolErrorKind.BAD_ARGUMENTS
        assert fault(await ask("reset", "", game=0))[0] is ToolErrorKind.BAD_ARGUMENTS
        for episode in ("a", "b"):
            assert (await ask("reset", episode, game=0)).ok
        assert fault(await ask("act", command="look"))[0] is ToolErrorKind.INFRA
        assert (await ask("act", "b", command="look")).ok

    with_games(replace(SMALL, sessions=2), work)
    assert list(cache.rglob("*.qzl")) == []


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_when_the_engine_dies_its_sessions_are_lost_and_others_begin(cache: Path):
    async def work(ask: Ask) -> None:
        before = children(os.getpid())
        await ask("reset", game=0)
        (engine,) = set(children(os.getpid())) - set(before)
        os.kill(engine, signal.SIGKILL)
        kind, message = fault(await ask("act", command="look"))
        assert (kind, message) == (ToolErrorKind.INFRA, "session lost: the process that plays ended")
        assert fault(await ask("act", command="look"))[0] is ToolErrorKind.INFRA
        assert (await ask("reset", game=0)).ok
        assert (await ask("act", command="look")).ok

    with_games(SMALL, work)


@pytest.mark.slow  # test_rollout_faults.py loses sessions too, and test_tools_sessions.py has the contract
def test_an_adapter_that_was_restarted_has_lost_its_sessions(cache: Path, tmp_path: Path):
    config = tmp_path / "tools.yaml"
    config.write_text("tools: [{kind: textworld, games: 2, rooms: 2, objects: 4, quest_length: 2}]\n")
    settings = ToolsSettings(config=str(config), timeout_s=120)
    numbers = iter(range(1_000))

    with (
        adapter(settings, tmp_path / "none", log=tmp_path / "tools.log") as (url, token),
        ToolClient(url, settings, token) as client,
    ):
        pid = client.check()["pid"]

        def ask(tool: str, **arguments: Any) -> ToolReply:
            client.submit(next(numbers), tool, arguments, "e")
            ((_, reply),) = client.poll(None)
            return reply

        begun = ask("reset", game=0)
        command = begun.data["admissible_commands"][0]
        first = ask("act", command=command)
        assert (begun.ok, first.ok) == (True, True)
        (engine,) = children(pid)
        os.kill(pid, signal.SIGKILL)
        kind, message = fault(ask("act", command=command))
        assert kind is ToolErrorKind.INFRA
        while not message.startswith("session lost"):  # the call was lost with the adapter, and never sent twice
            kind, message = fault(ask("act", command=command))
            assert kind is ToolErrorKind.INFRA
        assert client.check()["pid"] != pid
        assert client.stateful == {"reset", "act"}
        assert ask("reset", game=0) == begun
        assert ask("act", command=command) == first
        wait_until(lambda: is_gone(engine), "the game's engine ends with the adapter that it played for")


@pytest.mark.slow
def test_the_seed_decides_the_game_to_the_byte(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async def make(ask: Ask) -> None:
        first, second = await ask("reset", "a", game=0), await ask("reset", "b", game=1)
        assert first.content != second.content

    games: list[list[bytes]] = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        monkeypatch.setenv("REST_JAX_CACHE", str(folder))
        with_games(SMALL, make)
        games.append([path.read_bytes() for path in sorted(folder.glob(f"textworld/*/*/{GAME}"))])
    assert games[0] == games[1]
    assert len(set(games[0])) == 2


def test_a_game_that_cannot_be_made_is_one_line_for_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async def work(ask: Ask) -> None:
        raise AssertionError("it was opened")

    monkeypatch.setenv("REST_JAX_CACHE", str(tmp_path))
    (tmp_path / "textworld").write_text("no folder\n")
    says = r"TextWorld makes no game of these settings \(NotADirectoryError: .*\); change their sizes"
    with pytest.raises(UserError, match=says) as error:
        with_games(SMALL, work)
    assert "\n" not in str(error.value)
