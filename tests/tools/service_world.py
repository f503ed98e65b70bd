"""What the tests of the service share: a clock that nobody waits for, and tools that count their calls."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.tools.registry import Tool, ToolFailure
from rest_jax.tools.service.query import Clock, Query

QUERY = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}


class FakeTime:
    """Seconds that pass when somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds
        await asyncio.sleep(0)

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.seconds, self.sleep)


class Backend:
    """What a tool runs: it notes its calls, and first fails as it is told to."""

    def __init__(self, *failures: ToolFailure | Exception) -> None:
        self.failures = list(failures)
        self.calls: list[tuple[dict[str, Any], str]] = []
        self.open = asyncio.Event()
        """Calls end once this is set."""
        self.open.set()

    async def __call__(self, arguments: Mapping[str, Any], episode: str) -> ToolReply:
        self.calls.append((dict(arguments), episode))
        await self.open.wait()
        if self.failures:
            raise self.failures.pop(0)
        return ToolReply(f"about {arguments['query']}", {"n": len(self.calls)})

    def tool(self, **settings: Any) -> Tool:
        given = {"name": "search", "version": "1", "provider": "serper", **settings}
        return Tool(description="For tests.", parameters=QUERY, run=self, **given)


def ask_for(tool: Tool, query: str = "x", episode: str = "e") -> Query:
    return Query(tool, {"query": query}, episode)


def limited(retry_after_s: float = 0.0) -> ToolFailure:
    return ToolFailure(ToolErrorKind.RATE_LIMITED, "429", retry_after_s=retry_after_s)


def down() -> ToolFailure:
    return ToolFailure(ToolErrorKind.INFRA, "503")


@contextmanager
def full_disk(file: Path, *, room: int = 0) -> Iterator[None]:
    """No file grows beyond what this one holds and `room` bytes: what is written beyond fails halfway."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = file.stat().st_size if file.exists() else 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
