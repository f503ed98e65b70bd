"""A game that TextWorld made: made, and being played. Only processes of their own import this.

python -m rest_jax.tools.environments.story FOLDER '{"rooms": 3, …, "seed": 7}'      makes one
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import textworld  # pyright: ignore[reportMissingImports]
from textworld import EnvInfos, GameOptions  # pyright: ignore[reportMissingImports]

from rest_jax.tools.environments.games import GAME
from rest_jax.tools.environments.observations import OVER, observation, plain

DIRECTIONS = ("north", "south", "east", "west")
WORLD = re.compile(r"[a-z0-9' -]+")
"""What a command consists of. A full stop, or `then`, would begin another one."""

SHOWN = EnvInfos(
    feedback=True, objective=True, score=True, max_score=True, won=True, lost=True, verbs=True, admissible_commands=True
)


class Story:
    """One game being played."""

    def __init__(self, path: str) -> None:
        self._engine = textworld.start(path, SHOWN)
        self._state: Any = self._engine.reset()
        self._verbs = frozenset((*self._state.verbs, *DIRECTIONS))

    def begin(self) -> dict[str, Any]:
        """The goal and the first room, without the banner."""
        text = _words(self._state.feedback)
        return self._seen(text[max(0, text.find(self._state.objective)) :])

    def act(self, command: str) -> dict[str, Any]:
        """What the game answers to a command of its world.

        Others never reach it: `save` and `restore` would go through a file that all sessions share, `restart`, `quit`
        and `undo` would put questions, and a turn would be several.
        """
        if self._over:
            return self._seen(OVER)
        command = plain(command)
        words = command.split()
        if not words or words[0] not in self._verbs:
            return self._seen("That's not a verb I recognise.")
        if "then" in words or not WORLD.fullmatch(command):
            return self._seen("One command at a time, in plain words.")
        self._state, _, _ = self._engine.step(command)
        return self._seen(_words(self._state.feedback))

    def close(self) -> None:
        self._engine.close()

    @property
    def _over(self) -> bool:
        return bool(self._state.won or self._state.lost)

    def _seen(self, content: str) -> dict[str, Any]:
        state = self._state
        return observation(
            content,
            score=state.score,
            max_score=state.max_score,
            won=bool(state.won),
            done=self._over,
            commands=state.admissible_commands,
        )


def _words(feedback: str) -> str:
    """The game's words without the prompt and the status line that follow them."""
    return re.sub(r"\n{3,}", "\n\n", re.split(r"\n>", feedback)[0]).strip()


def make(folder: Path, options: Mapping[str, int]) -> None:
    """Generate and compile a game into `folder`; GAME is there once it is whole. The seed decides it, to the byte."""
    wanted = GameOptions()
    wanted.seeds = options["seed"]
    wanted.nb_rooms, wanted.nb_objects = options["rooms"], options["objects"]
    wanted.quest_length = options["quest_length"]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        wanted.path = str(Path(aside) / GAME)
        textworld.make(wanted)
        for name in (GAME.replace(".z8", ".json"), GAME):
            os.replace(Path(aside) / name, folder / name)


if __name__ == "__main__":
    make(Path(sys.argv[1]), json.loads(sys.argv[2]))
