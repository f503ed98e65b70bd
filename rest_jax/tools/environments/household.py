"""A game of ALFWorld being played, by TextWorld's PDDL engine. Only the process that plays imports this."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import fast_downward  # pyright: ignore[reportMissingImports]
from textworld import EnvInfos  # pyright: ignore[reportMissingImports]
from textworld.envs import PddlEnv  # pyright: ignore[reportMissingImports]

from rest_jax.tools.environments.names import plain_names
from rest_jax.tools.environments.observations import OVER, observation, plain

BANNER = re.compile(r"\A-= .* =-$", re.MULTILINE)
SHOWN = EnvInfos(feedback=True, won=True, admissible_commands=True)

# TextWorld translates a game when it is loaded and again when it is reset, each time twice, and so for every session:
# 1.4 s of a core at a time for one of 25 places and 60 objects.
fast_downward.pddl2sas = lru_cache(maxsize=64)(fast_downward.pddl2sas)


class Household:
    """One game being played. A command that is not among the admissible ones changes nothing."""

    def __init__(self, path: str) -> None:
        self._engine = PddlEnv(SHOWN)
        self._engine.load(path)
        things = self._engine._entity_infos
        for id, name in plain_names(things).items():
            things[id].name = name  # pyright: ignore[reportAttributeAccessIssue]
        self._state: Any = self._engine.reset()

    def begin(self) -> dict[str, Any]:
        """The room and the task, without the banner."""
        return self._seen(BANNER.sub("", self._state.feedback))

    def act(self, command: str) -> dict[str, Any]:
        """What the game answers to a command."""
        if self._state.won:
            return self._seen(OVER)
        self._state, _, _ = self._engine.step(plain(command))
        return self._seen(self._state.feedback)

    def close(self) -> None:
        """Give the planner's library back, of which each game loads a copy of its own."""
        fast_downward.close_lib(self._engine.downward_lib)

    def _seen(self, content: str) -> dict[str, Any]:
        won = bool(self._state.won)
        commands = self._state.admissible_commands
        return observation(content.strip(), score=int(won), max_score=1, won=won, done=won, commands=commands)
