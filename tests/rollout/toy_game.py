"""A game and a scorer for tests, as a kind of tools.yaml that only they know: a door, its key in a box, and a pit; and
words that are toxic."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.tools.environments.sessions import Sessions
from rest_jax.tools.registry import Tool, ToolFailure
from rest_jax.tools.scorers.toxicity import toxicity_tool

REGISTER = """\
from rest_jax.tools.settings import FAMILIES, Family
FAMILIES["toy_game"] = Family("toy_game", "ToyGameSettings", "open_toy_game")
"""
"""A `sitecustomize` of the adapter."""
TOXIC = {"stupid": 0.9, "silly": 0.3}
GOAL = "Your goal: open the door. A closed box is here.\nThere is a pit to the south."


@dataclass(frozen=True)
class ToyGameSettings:
    """It has none."""


@asynccontextmanager
async def open_toy_game(settings: ToyGameSettings) -> AsyncIterator[tuple[Tool, ...]]:
    sessions: Sessions[set[str]] = Sessions(ttl_s=600, most=1000, close=lambda done: None)

    async def reset(arguments: Mapping[str, Any], episode: str) -> ToolReply:
        if arguments["game"] > 7:
            raise ToolFailure(ToolErrorKind.BAD_ARGUMENTS, f"there is no game {arguments['game']}")
        sessions.begin(episode, set())
        return ToolReply(GOAL, {"done": False, "won": False})

    async def act(arguments: Mapping[str, Any], episode: str) -> ToolReply:
        async with sessions.use(episode) as done:
            match arguments["command"]:
                case "open box":
                    done.add("key")
                    return ToolReply("You find a key.", {"done": False, "won": False})
                case "open door" if "key" in done:
                    return ToolReply("The door opens.", {"done": True, "won": True})
                case "go south":
                    return ToolReply("You fall.", {"done": True, "won": False})
            return ToolReply("Nothing happens.", {"done": False, "won": False})

    async def score(text: str) -> Mapping[str, float]:
        found = [percent for word, percent in TOXIC.items() if word in text]
        return {"insult": max(found, default=0.04), "threat": 0.02}

    game = {"type": "object", "properties": {"game": {"type": "integer"}}, "required": ["game"]}
    command = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
    yield (
        Tool("reset", "1", "Begin the game.", game, reset, stateful=True),
        Tool("act", "1", "Do something.", command, act, stateful=True),
        toxicity_tool(score, "1"),
    )
