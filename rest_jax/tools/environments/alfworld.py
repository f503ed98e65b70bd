"""ALFWorld (Shridhar et al. 2021): household tasks as text games, from a copy of its data. Extra `alfworld`.

FOLDER/{train,valid_seen,valid_unseen}/TASK/TRIAL/game.tw-pddl
a game: JSON {"pddl_domain", "pddl_problem", "grammar": str, "solvable": bool}, played by TextWorld's PDDL engine
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from rest_jax.config.limits import Natural, Positive
from rest_jax.core.canonical import digest, digest_file
from rest_jax.core.errors import UserError
from rest_jax.tools.environments.playing import PlayingSettings, open_playing
from rest_jax.tools.registry import Tool

GAME = "game.tw-pddl"
ENGINE = ("textworld", "fast-downward-textworld")
"""The packages that play."""

LEFT_OUT = ("movable", "Sliced")
"""Marks of tasks, in their folders' names, that ALFWorld leaves out: its text games cannot express them."""


@dataclass(frozen=True, kw_only=True)
class AlfWorldSettings(PlayingSettings):
    """ALFWorld's text games. They are played from where they lie, and nothing is fetched."""

    folder: str
    """The folder of the splits, as in ~/.cache/alfworld/json_2.1.1."""
    split: Literal["train", "valid_seen", "valid_unseen"] = "valid_unseen"
    """Which of them."""
    games: Positive | None = None
    """How many of its games there are, from the first on; null is all."""
    seed: Natural | None = None
    """The seed of their order; null is the order of their paths."""


@contextlib.asynccontextmanager
async def open_alfworld(settings: AlfWorldSettings) -> AsyncIterator[tuple[Tool, ...]]:
    """`reset` and `act` (`open_playing`). The first observation ends with the task; a game is won when it is done.

    Raises UserError for a folder without so many games, and when the engine is not installed.
    """
    games = listed(settings)
    contents = digest([digest_file(path) for path in games])
    try:
        engine = "+".join(importlib.metadata.version(package) for package in ENGINE)
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(f"{error.name} is not installed; pip install 'rest_jax[alfworld]'") from None

    async def path(game: int) -> Path:
        return games[game]

    version = f"alfworld-{engine}+{contents[:12]}"
    async with open_playing(settings, version, len(games), path, "household") as tools:
        yield tools


def listed(settings: AlfWorldSettings) -> list[Path]:
    """The games' files, in the order of their numbers. Raises UserError where there are not so many."""
    split = Path(settings.folder).expanduser().absolute() / settings.split
    paths = sorted(path for path in split.glob(f"*/*/{GAME}") if not any(mark in path.parts[-3] for mark in LEFT_OUT))
    if settings.seed is not None:
        random.Random(settings.seed).shuffle(paths)
    games = list(islice(_solvable(paths), settings.games))
    if not games:
        raise UserError(f"{split}: no TASK/TRIAL/{GAME} that can be solved; `folder` is ALFWorld's folder of splits")
    if len(games) < (settings.games or 1):
        raise UserError(f"{split}: {len(games)} of its games can be solved, not {settings.games}; ask for fewer")
    return games


def _solvable(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        try:
            if json.loads(path.read_bytes()).get("solvable"):
                yield path
        except (ValueError, AttributeError) as error:
            raise UserError(f"{path}: not a game ({error}); fetch ALFWorld's data anew") from error
