"""TextWorld (Côté et al. 2018): text games, generated from a seed, as two stateful tools. Extra `textworld`."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

from rest_jax.config.limits import AboveZero, Natural, Positive
from rest_jax.core.cache import cache_folder
from rest_jax.core.canonical import digest
from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.core.errors import UserError
from rest_jax.tools.environments.player import Player, player_environment
from rest_jax.tools.environments.sessions import Sessions
from rest_jax.tools.registry import Schema, Tool, ToolFailure

MODULE = "rest_jax.tools.environments.textworld_player"
GAME = "game.z8"
"""A game's file, in a folder of its own."""

ANSWER_S = 30.0
"""An engine that takes longer over one command hangs: its process is ended, and the sessions in it are lost."""

MAKE_S = 120.0
"""How long a game may take to be generated and compiled (5 s on a core)."""

MAKERS = 2
"""Games that are made at once."""

_ACT: Schema = {
    "type": "object",
    "properties": {
        "command": {"type": "string", "description": "What to do, as in `take key from table`.", "maxLength": 200}
    },
    "required": ["command"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class TextWorldSettings:
    """TextWorld games of one size, each a function of its number. They are generated here, and nothing is fetched."""

    games: Positive = 100
    """How many games there are; a session plays one of them."""
    seed: Natural = 0
    """The seed of game 0; game n has this seed + n."""
    rooms: Positive = 3
    """Rooms of a game."""
    objects: Positive = 6
    """Objects of a game."""
    quest_length: Positive = 3
    """Commands that the quest takes."""
    sessions: Positive = 512
    """Games that are played at once; the least recently used gives way to another."""
    ttl_s: AboveZero = 900.0
    """Seconds without a command after which a session ends."""
    processes: Positive = 1
    """Processes that play. A game takes about 2 MB in one, a command about 5 ms."""


@contextlib.asynccontextmanager
async def open_textworld(settings: TextWorldSettings) -> AsyncIterator[tuple[Tool, ...]]:
    """`reset` and `act`, stateful by episode.

    reset  {"game": n} → the goal and the first room. It begins the episode, or begins it anew.
    act    {"command"} → what the game answers, also to a command that it does not understand.
    Both: data {"score", "max_score", "done", "won", "admissible_commands"}. `act` in an episode without a session (no
    `reset`, the adapter restarted, ttl_s over, the engine's process ended) fails as `infra`: session lost.
    Raises UserError when TextWorld is not installed or makes no game of these settings.
    """
    try:
        made_by = importlib.metadata.version("textworld")
    except importlib.metadata.PackageNotFoundError:
        raise UserError("textworld is not installed; pip install 'rest_jax[textworld]'") from None
    games = _Games(settings, made_by)
    try:
        await games.path(0)
    except ConnectionError as error:
        raise UserError(f"TextWorld makes no game of these settings ({error}); change their sizes") from error
    async with contextlib.AsyncExitStack() as opened:
        players = [Player(("-m", MODULE, "play"), ANSWER_S) for _ in range(settings.processes)]
        for player in players:
            opened.push_async_callback(player.close)
        yield _tools(settings, games, players, f"textworld-{made_by}+{games.digest[:12]}")


@dataclass(frozen=True)
class _Session:
    player: Player
    number: int

    async def ask(self, **request: Any) -> ToolReply:
        try:
            answer = await self.player.ask({"session": self.number, **request})
        except ConnectionError as error:
            raise _lost(str(error)) from error
        if "error" in answer:
            raise _lost(answer["error"])
        return ToolReply(answer["content"], answer["data"])

    def close(self) -> None:
        self.player.tell({"session": self.number, "do": "close"})


def _tools(settings: TextWorldSettings, games: _Games, players: list[Player], version: str) -> tuple[Tool, ...]:
    sessions: Sessions[_Session] = Sessions(ttl_s=settings.ttl_s, most=settings.sessions, close=_Session.close)
    numbers = count()

    async def reset(arguments: Mapping[str, Any], episode: str) -> ToolReply:
        try:
            path = await games.path(arguments["game"])
        except ConnectionError as error:
            raise ToolFailure(ToolErrorKind.INFRA, f"TextWorld made no game {arguments['game']}: {error}") from error
        number = next(numbers)
        session = _Session(players[number % len(players)], number)
        sessions.begin(episode, session)
        async with sessions.use(episode) as session:
            return await session.ask(do="open", path=str(path))

    async def act(arguments: Mapping[str, Any], episode: str) -> ToolReply:
        async with sessions.use(episode) as session:
            return await session.ask(do="act", command=arguments["command"])

    game = {"type": "integer", "description": "Which game to play.", "minimum": 0, "maximum": settings.games - 1}
    begun: Schema = {
        "type": "object",
        "properties": {"game": game},
        "required": ["game"],
        "additionalProperties": False,
    }
    return (
        Tool("reset", version, "Begin a game.", begun, reset, stateful=True),
        Tool("act", version, "Do something in the game.", _ACT, act, stateful=True),
    )


class _Games:
    """The games' files, made when they are first wanted and kept in the cache folder."""

    def __init__(self, settings: TextWorldSettings, made_by: str) -> None:
        chosen = asdict(settings)
        self._options = {name: chosen[name] for name in ("rooms", "objects", "quest_length")}
        self._seed = settings.seed
        self.digest = digest([made_by, self._options, self._seed])
        self._folder = cache_folder() / "textworld" / digest([made_by, self._options])[:16]
        self._makers = asyncio.Semaphore(MAKERS)
        self._making: dict[int, asyncio.Task[None]] = {}

    async def path(self, game: int) -> Path:
        """The game's file. Raises ConnectionError when it cannot be made.

        Whoever no longer waits for it leaves it to be made: the next who asks finds it.
        """
        seed = self._seed + game
        folder = self._folder / str(seed)
        if not (folder / GAME).is_file():
            if seed not in self._making:
                self._making[seed] = asyncio.create_task(self._make(folder, seed))
                self._making[seed].add_done_callback(lambda _: self._making.pop(seed))
            await asyncio.shield(self._making[seed])
        return folder / GAME

    async def _make(self, folder: Path, seed: int) -> None:
        options = json.dumps({**self._options, "seed": seed})
        async with self._makers:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", MODULE, "make", str(folder), options),
                stdout=PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=player_environment(),
            )
            try:
                async with asyncio.timeout(MAKE_S):
                    said, _ = await process.communicate()
            except TimeoutError:
                raise ConnectionError(f"it took more than {MAKE_S:g} s") from None
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        if process.returncode != 0:
            last = said.decode(errors="replace").strip().splitlines() or ["no message"]
            raise ConnectionError(last[-1][:300])


def _lost(why: str) -> ToolFailure:
    return ToolFailure(ToolErrorKind.INFRA, f"session lost: {why}")
