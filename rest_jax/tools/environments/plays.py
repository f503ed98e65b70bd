"""The process that plays text games, a line of JSON in and a line out; it alone imports an engine.

    python -m rest_jax.tools.environments.plays story|household

A process of its own because the engines are C libraries that block and may crash.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol


class Game(Protocol):
    """A game being played, from its file on."""

    def begin(self) -> dict[str, Any]:
        """The goal and what is seen first (`observations.observation`)."""
        ...

    def act(self, command: str) -> dict[str, Any]:
        """What the game answers to a command."""
        ...

    def close(self) -> None: ...


def play(game: Callable[[str], Game]) -> None:
    """Answer requests until the input ends: open (session, path), act (session, command), close (session)."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    plays: dict[int, Game] = {}
    for line in sys.stdin:
        try:
            answer = _answer(game, plays, json.loads(line))
        except (Exception, SystemExit) as error:  # one game's defect is no other's; the planner's parser exits
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


def _answer(game: Callable[[str], Game], plays: dict[int, Game], request: Mapping[str, Any]) -> dict[str, Any]:
    session = request["session"]
    match request["do"]:
        case "open":
            plays[session] = game(request["path"])
            return plays[session].begin()
        case "close":
            if session in plays:
                plays.pop(session).close()
            return {}
    if session not in plays:
        return {"error": "the process that played it has ended"}
    return plays[session].act(request["command"])


def engine(kind: str) -> Callable[[str], Game]:
    """What opens a game's file: of TextWorld (`story`), or of ALFWorld (`household`)."""
    if kind == "story":
        from rest_jax.tools.environments.story import Story

        return Story
    from rest_jax.tools.environments.household import Household

    return Household


if __name__ == "__main__":
    play(engine(sys.argv[1]))
