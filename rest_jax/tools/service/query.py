"""A call on its way to a tool, and its answer. Each layer of the service is an `Ask` around another."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from rest_jax.core.canonical import digest
from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.tools.protocol import CacheStatus
from rest_jax.tools.registry import Tool, ToolFailure


@dataclass(frozen=True)
class Query:
    """A call of a tool that is there."""

    tool: Tool
    arguments: Mapping[str, Any]
    episode: str = ""
    until: float = math.inf
    """When its caller gives up, by the service's clock: what cannot be done until then fails at once, and says why."""
    begins: bool = False
    """Of a stateful tool: its episode has asked such tools nothing before, whatever is remembered of it."""
    before: str = ""
    """Of a stateful tool: the key of what its episode asked such tools before."""

    @cached_property
    def key(self) -> str | None:
        """sha256 (hex) of all that the answer depends on. None where the arguments have no canonical form (NaN, lone
        surrogates, nested too deep): such a call is never remembered."""
        session = [self.episode, self.before] if self.tool.stateful else []
        try:
            return digest([self.tool.name, self.tool.version, self.arguments, self.tool.provider, *session])
        except (ValueError, RecursionError):
            return None


@dataclass(frozen=True)
class Answer:
    """What a query got. A fault in the reply is the agent's own; failures of the infrastructure are raised."""

    reply: ToolReply
    cache: CacheStatus = CacheStatus.BYPASS
    attempts: int = 1
    """How often the tool was run for it; 0 where it was not."""


Ask = Callable[[Query], Awaitable[Answer]]
"""Answers a query whose arguments satisfy the tool's schema. Raises ToolFailure, and whatever a defect raises."""


async def run_tool(query: Query) -> Answer:
    """The innermost `Ask`: the tool itself."""
    return Answer(await query.tool.run(query.arguments, query.episode))


class Memory(Protocol):
    """Remembers answers. It knows itself which ones: the cache nothing stateful, a cassette no second answer."""

    async def recall(self, queries: Sequence[Query]) -> list[Answer | None]:
        """What it knows of each query. Every key is there."""
        ...

    async def keep(self, query: Query, answer: Answer) -> Answer:
        """Remember an answer; returns it, or the one that stands in its place."""
        ...


@dataclass
class Trouble:
    """What makes it pointless to go on until somebody mends it: the adapter says it when it is asked how it is."""

    text: str = ""
    """One line: what, and how to mend it. Empty while all is well."""

    def report(self, text: str) -> None:
        """The first one stays."""
        self.text = self.text or text

    def failure(self, text: str) -> ToolFailure:
        """Report it; returns how the call that met it fails: not to be tried again."""
        self.report(text)
        failure = ToolFailure(ToolErrorKind.INFRA, text)
        failure.retryable = False
        return failure


@dataclass(frozen=True)
class Clock:
    """Time as the service sees it: seconds that only grow, and a way to wait for them. Tests bring their own."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
