"""Turns at what takes only so many calls at one time: whoever waits is served in the order of coming."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rest_jax.core.effects import ToolErrorKind
from rest_jax.tools.registry import ToolFailure


class Waited(ToolFailure):
    """A call had not the time that is its own, because it waited for its turn. What it asks for is not to blame, and
    whoever sends it again may find fewer before it."""

    retryable = True

    def __init__(self, message: str, attempts: int) -> None:
        super().__init__(ToolErrorKind.INFRA, f"{message}; have fewer calls at once, or give them a later deadline")
        self.attempts = attempts


class Turns:
    """Places for `at_once` calls, of one tool or of several that share them."""

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self._places = asyncio.Semaphore(at_once)

    @asynccontextmanager
    async def take(self, within_s: float) -> AsyncIterator[float]:
        """A place for the length of a block, which is told how many of the seconds are left: all where none waited.

        Raises Waited when no place came free in that time.
        """
        began = time.monotonic()
        waits = self._places.locked()
        try:
            async with asyncio.timeout(within_s):
                await self._places.acquire()
        except TimeoutError:
            raise Waited(f"none of {self.at_once} places came free within {within_s:g} s", attempts=0) from None
        try:
            yield within_s - (time.monotonic() - began) if waits else within_s
        finally:
            self._places.release()
