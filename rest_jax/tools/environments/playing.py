"""Games that processes of their own play, as two stateful tools: what every kind of game shares."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

from rest_jax.config.limits import AboveZero, Positive
from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.tools.environments.game_process import GameProcess
from rest_jax.tools.environments.sessions import Sessions
from rest_jax.tools.registry import Schema, Tool, ToolFailure

PLAYS = "rest_jax.tools.environments.plays"

ANSWER_S = 30.0
"""An engine that takes longer over one command hangs: its process is ended, and the sessions in it are lost."""

_ACT: Schema = {
    "type": "object",
    "properties": {
        "command": {"type": "string", "description": "What to do, as in `take key from table`.", "maxLength": 200}
    },
    "required": ["command"],
    "additionalProperties": False,
}


@dataclass(frozen=True, kw_only=True)
class PlayingSettings:
    """What every kind of game's settings say."""

    sessions: Positive = 512
    """Games that are played at once; the least recently used gives way to another."""
    ttl_s: AboveZero = 900.0
    """Seconds without a command after which a session ends."""
    processes: Positive = 1
    """Processes that play."""


@contextlib.asynccontextmanager
async def open_playing(
    settings: PlayingSettings,
    version: str,
    games: int,
    path: Callable[[int], Awaitable[Path]],
    kind: Literal["story", "household"],
) -> AsyncIterator[tuple[Tool, ...]]:
    """`reset` and `act`, stateful by episode, over games of this kind; `path` says where the file of each of
    the `games` is.

    reset  {"game": n} → the goal and the first room. It begins the episode, or begins it anew.
    act    {"command"} → what the game answers, also to a command that it does not understand.
    Both: data {"score", "max_score", "done", "won", "admissible_commands"}. `act` in an episode without a session (no
    `reset`, the adapter restarted, ttl_s over, the engine's process ended) fails as `infra`: session lost.
    """
    async with contextlib.AsyncExitStack() as opened:
        processes = [GameProcess(("-m", PLAYS, kind), ANSWER_S) for _ in range(settings.processes)]
        for process in processes:
            opened.push_async_callback(process.close)
        yield _tools(settings, version, games, path, processes)


@dataclass(frozen=True)
class _Session:
    process: GameProcess
    number: int

    async def ask(self, **request: Any) -> ToolReply:
        try:
            answer = await self.process.ask({"session": self.number, **request})
        except ConnectionError as error:
            raise _lost(str(error)) from error
        if "error" in answer:
            raise _lost(answer["error"])
        return ToolReply(answer["content"], answer["data"])

    def close(self) -> None:
        self.process.tell({"session": self.number, "do": "close"})


def _tools(
    settings: PlayingSettings,
    version: str,
    games: int,
    path: Callable[[int], Awaitable[Path]],
    processes: list[GameProcess],
) -> tuple[Tool, ...]:
    sessions: Sessions[_Session] = Sessions(ttl_s=settings.ttl_s, most=settings.sessions, close=_Session.close)
    numbers = count()

    async def reset(arguments: Mapping[str, Any], episode: str) -> ToolReply:
        file = await path(arguments["game"])
        number = next(numbers)
        session = _Session(processes[number % len(processes)], number)
        sessions.begin(episode, session)
        async with sessions.use(episode) as session:
            return await session.ask(do="open", path=str(file))

    async def act(arguments: Mapping[str, Any], episode: str) -> ToolReply:
        async with sessions.use(episode) as session:
            return await session.ask(do="act", command=arguments["command"])

    game = {"type": "integer", "description": "Which game to play.", "minimum": 0, "maximum": games - 1}
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


def _lost(why: str) -> ToolFailure:
    return ToolFailure(ToolErrorKind.INFRA, f"session lost: {why}")
