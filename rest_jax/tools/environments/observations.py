"""What an agent is told of a game, and what it says to one, whatever the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

OVER = "The game is over."


def observation(
    content: str, *, score: int, max_score: int, won: bool, done: bool, commands: Sequence[str]
) -> dict[str, Any]:
    """A game's answer; `commands` are those that do something next, while there is anything to do."""
    return {
        "content": content,
        "data": {
            "score": score,
            "max_score": max_score,
            "done": done,
            "won": won,
            "admissible_commands": [] if done else list(commands),
        },
    }


def plain(command: str) -> str:
    """A command as engines know it: in small letters, with single spaces, without a full stop."""
    return " ".join(command.lower().split()).rstrip(".! ")
