"""ALFWorld's kind of games as stateful tools: a real engine in a real process, and a game of our own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from episodes import Ask, fault, with_tools
from household_world import PROBLEM, TASK, WALKTHROUGH, write_game

from rest_jax.core.effects import ToolErrorKind
from rest_jax.core.errors import UserError
from rest_jax.tools.environments import alfworld
from rest_jax.tools.environments.alfworld import AlfWorldSettings, listed, open_alfworld
from rest_jax.tools.environments.names import plain_names
from rest_jax.tools.settings import open_tools, read_settings


@pytest.fixture
def engine() -> None:
    pytest.importorskip("fast_downward", reason="extra `alfworld` is not installed")


def settings(folder: Path, **changes: Any) -> AlfWorldSettings:
    return AlfWorldSettings(folder=str(folder), split="train", **changes)


def version(chosen: AlfWorldSettings) -> str:
    async def opened() -> str:
        async with open_alfworld(chosen) as (reset, act):
            assert reset.version == act.version
            return act.version

    return asyncio.run(opened())


@pytest.mark.usefixtures("engine")
def test_a_game_is_won_in_each_of_several_episodes(tmp_path: Path):
    write_game(tmp_path / "train", "wash_a_cup")

    async def work(ask: Ask) -> None:
        kind, message = fault(await ask("act", command="look"))
        assert (kind, message.partition(":")[0]) == (ToolErrorKind.INFRA, "session lost")
        episodes = [f"q{i}#0" for i in range(4)]
        first = await asyncio.gather(*(ask("reset", episode, game=0) for episode in episodes))
        assert first[0].content == (
            f"Around you there are a drawer 2, a drawer 1, a sinkbasin 1, and a table 1.\n\n{TASK}"
        )
        places = ["go to drawer 1", "go to drawer 2", "go to sinkbasin 1", "go to table 1", "look"]
        begun = {"score": 0, "max_score": 1, "done": False, "won": False, "admissible_commands": places}
        assert all((reply.content, reply.data) == (first[0].content, begun) for reply in first)
        for beyond in ("dance", "take cup 1 from table 1", "look; look", ""):
            nothing = await ask("act", episodes[0], command=beyond)
            assert (nothing.content, nothing.data) == ("Nothing happens.", begun)
        shut = await ask("act", episodes[1], command=" Go to  DRAWER 2. ")
        assert shut.content == "You stand before the drawer 2. It is shut."
        found = await ask("act", episodes[1], command="open drawer 2")
        assert found.content == "You open the drawer 2. There you find a spoon 1."
        for at, command in enumerate(WALKTHROUGH, start=1):
            replies = await asyncio.gather(*(ask("act", episode, command=command) for episode in episodes))
            assert len({json.dumps([reply.content, reply.data]) for reply in replies}) == 1
            assert replies[0].content != "Nothing happens."
            assert replies[0].data["done"] is (at == len(WALKTHROUGH))
        won = {"score": 1, "max_score": 1, "done": True, "won": True, "admissible_commands": []}
        assert (replies[0].content, replies[0].data) == ("The cup 2 lies in the drawer 1.", won)
        over = await ask("act", episodes[0], command="look")
        assert (over.content, over.data) == ("The game is over.", won)
        again = await ask("reset", episodes[0], game=0)
        assert (again.content, again.data) == (first[0].content, begun)
        assert (await ask("act", episodes[1], command="look")).data["done"] is True

    with_tools(open_alfworld(settings(tmp_path)), work)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            {"pddl_problem": PROBLEM.replace("(washed ?t)", "(spotless ?t)")},
            "SystemExit: ",
        ),  # the planner's parser would exit
        ({"pddl_problem": PROBLEM[:-20]}, "ParseError: "),
        ({"grammar": ""}, "CSGUnknownSymbolError: "),
    ],
)
def test_a_game_that_cannot_be_played_is_no_other_games_end(tmp_path: Path, wrong: Mapping[str, Any], says: str):
    write_game(tmp_path / "train", "a")
    write_game(tmp_path / "train", "b", **wrong)

    async def work(ask: Ask) -> None:
        assert (await ask("reset", "good", game=0)).ok
        kind, message = fault(await ask("reset", "bad", game=1))
        assert (kind, message[: len(f"session lost: {says}")]) == (ToolErrorKind.INFRA, f"session lost: {says}")
        assert (await ask("act", "good", command="look")).content == "You look around."
        assert fault(await ask("act", "bad", command="look"))[0] is ToolErrorKind.INFRA

    with_tools(open_alfworld(settings(tmp_path)), work)


@pytest.mark.usefixtures("engine")
def test_the_version_tells_other_games_and_another_order(tmp_path: Path):
    for task in "abcd":
        write_game(tmp_path / "train", task, walkthrough=[task])
    versions = [version(settings(tmp_path, **changes)) for changes in ({}, {"games": 2}, {"seed": 1}, {"ttl_s": 9.0})]
    assert len(set(versions)) == 3
    assert versions[3] == versions[0]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "train").rename(elsewhere / "train")
    assert version(settings(elsewhere)) == versions[0]


def test_games_are_those_that_can_be_solved_in_the_order_of_paths_or_of_a_seed(tmp_path: Path):
    for task in ("d", "b", "a_movable_recep", "a-AppleSliced", "c", "a"):
        write_game(tmp_path / "train", task)
    write_game(tmp_path / "train", "aa", solvable=False)
    write_game(tmp_path / "valid_seen", "e")

    def tasks(**changes: Any) -> list[str]:
        return [path.parts[-3] for path in listed(settings(tmp_path, **changes))]

    assert tasks() == ["a", "b", "c", "d"]
    assert tasks(games=3) == ["a", "b", "c"]
    orders = [tasks(seed=seed) for seed in range(5)]
    assert all(sorted(order) == ["a", "b", "c", "d"] for order in orders)
    assert len({tuple(order) for order in orders}) > 1
    assert tasks(seed=1, games=2) == orders[1][:2]


def test_a_folder_without_such_games_is_one_line_for_the_user(tmp_path: Path):
    with pytest.raises(UserError, match=r"train: no TASK/TRIAL/game\.tw-pddl that can be solved; `folder` is"):
        listed(settings(tmp_path))
    game = write_game(tmp_path / "train", "a")
    with pytest.raises(UserError, match=r"train: 1 of its games can be solved, not 2; ask for fewer"):
        listed(settings(tmp_path, games=2))
    for text in ("{", "[]"):
        game.write_text(text)
        with pytest.raises(UserError, match=r"game\.tw-pddl: not a game \(.*\); fetch ALFWorld's data anew"):
            listed(settings(tmp_path))


def test_an_engine_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_game(tmp_path / "data" / "valid_unseen", "a")
    file = tmp_path / "tools.yaml"
    file.write_text(f"tools: [{{kind: alfworld, folder: {tmp_path / 'data'}}}]\n")

    def none(name: str) -> str:
        raise alfworld.importlib.metadata.PackageNotFoundError(name)

    async def opened() -> None:
        async with open_tools(read_settings(file)):
            raise AssertionError("it was opened")

    monkeypatch.setattr(alfworld.importlib.metadata, "version", none)
    with pytest.raises(UserError, match=r"textworld is not installed; pip install 'rest_jax\[alfworld\]'"):
        asyncio.run(opened())


def test_things_are_named_as_alfworld_names_them():
    names = plain_names(
        [
            "mug_bar__minus_00_dot_11_bar__plus_00_dot_93_bar__minus_01_dot_36",
            "mug_bar__plus_00_dot_24_bar__plus_01_dot_12_bar__minus_02_dot_01",
            "sink_bar__minus_00_dot_50_bar__plus_00_dot_80_bar__minus_00_dot_36",
            "sink_bar__minus_00_dot_50_bar__plus_00_dot_80_bar__minus_00_dot_36_bar_sinkbasin",
            "bathtub_bar__plus_01_dot_00_bar__plus_00_dot_02_bar__minus_00_dot_11_bar_bathtubbasin",
            "loc_bar__minus_3_bar_2_bar_1_bar_30",
            "agent1",
        ]
    )
    assert list(names.values()) == ["mug 2", "mug 1", "sink 1", "sinkbasin 1", "bathtubbasin 1", "loc 1", "agent1"]
