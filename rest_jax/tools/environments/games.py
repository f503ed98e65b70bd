"""TextWorld (Côté et al. 2018): text games, generated from a seed, as two stateful tools. Extra `textworld`."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rest_jax.config.limits import Natural, Positive
from rest_jax.core.cache import cache_folder
from rest_jax.core.canonical import digest
from rest_jax.core.effects import ToolErrorKind
from rest_jax.core.errors import UserError
from rest_jax.tools.environments.game_process import game_environment
from rest_jax.tools.environments.playing import PlayingSettings, open_playing
from rest_jax.tools.registry import Tool, ToolFailure

GAME = "game.z8"
"""A game's file, in a folder of its own."""

MAKER = "rest_jax.tools.environments.story"

MAKE_S = 120.0
"""How long a game may take to be generated and compiled (5 s on a core)."""

MAKERS = 2
"""Games that are made at once."""


@dataclass(frozen=True, kw_only=True)
class TextWorldSettings(PlayingSettings):
    """TextWorld games of one size, each a function of its number. They are generated here, and nothing is fetched.

    In a process that plays, a game takes about 2 MB, a command about 5 ms.
    """

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


@contextlib.asynccontextmanager
async def open_textworld(settings: TextWorldSettings) -> AsyncIterator[tuple[Tool, ...]]:
    """`reset` and `act` (`open_playing`).

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

    async def path(game: int) -> Path:
        try:
            return await games.path(game)
        except ConnectionError as error:
            raise ToolFailure(ToolErrorKind.INFRA, f"TextWorld made no game {game}: {error}") from error

    version = f"textworld-{made_by}+{games.digest[:12]}"
    async with open_playing(settings, version, settings.games, path, "story") as tools:
        yield tools


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
                *(sys.executable, "-m", MAKER, str(folder), options),
                stdout=PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=game_environment(),
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
