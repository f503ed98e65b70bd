"""Tools with a session for each episode, as a kind of tools.yaml that only the tests know: `begin`, and `write`, which
shows all that was written since."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from rest_jax.core.effects import ToolReply
from rest_jax.tools.environments.sessions import Sessions
from rest_jax.tools.registry import Tool

REGISTER = """\
from rest_jax.tools.settings import FAMILIES, Family
FAMILIES["diary"] = Family("diary", "DiarySettings", "open_diary")
"""
"""A `sitecustomize` of the adapter."""


@dataclass(frozen=True)
class DiarySettings:
    """It has none."""


@asynccontextmanager
async def open_diary(settings: DiarySettings) -> AsyncIterator[tuple[Tool, ...]]:
    sessions: Sessions[list[str]] = Sessions(ttl_s=600, most=1000, close=lambda lines: None)

    async def begin(arguments: Mapping[str, Any], episode: str) -> ToolReply:
        sessions.begin(episode, [])
        return ToolReply("begun")

    async def write(arguments: Mapping[str, Any], episode: str) -> ToolReply:
        async with sessions.use(episode) as lines:
            lines.append(arguments["line"])
            return ToolReply(" ".join(lines))

    line = {"type": "object", "properties": {"line": {"type": "string"}}, "required": ["line"]}
    yield (
        Tool("begin", "1", "Open an empty diary.", {"type": "object"}, begin, stateful=True),
        Tool("write", "1", "Write a line.", line, write, stateful=True),
    )
