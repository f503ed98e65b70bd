"""How much each provider is asked: a token bucket for the rate, and apart from it a cap on calls at one time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from rest_jax.core.effects import ToolErrorKind
from rest_jax.tools.registry import ToolFailure
from rest_jax.tools.service.query import Answer, Ask, Clock, Query
from rest_jax.tools.service.settings import ProviderLimits

NEARLY_NONE = 1e-9
"""Tokens: what rounding may leave of a whole one."""


@dataclass(frozen=True)
class Bucket:
    """A token bucket: how many tokens it held when it was last looked at. Each call takes one."""

    tokens: float
    at: float

    def filled(self, per_second: float, burst: int, now: float) -> Bucket:
        """The bucket as it is now. A clock that goes back fills nothing and empties nothing."""
        return Bucket(min(float(burst), self.tokens + per_second * max(0.0, now - self.at)), now)


def limiting(ask: Ask, limits: Mapping[str, ProviderLimits], clock: Clock) -> Ask:
    """`ask`, as often as each provider allows; one without limits has the defaults. Tools of nobody pass.

    Who waits is served in the order of coming; who could not be served in time is told at once (rate_limited). What a
    provider asks for by Retry-After holds for all its calls.
    """
    gates: dict[str, _Gate] = {}

    async def in_turn(query: Query) -> Answer:
        provider = query.tool.provider
        if not provider:
            return await ask(query)
        if provider not in gates:
            gates[provider] = _Gate(limits.get(provider) or ProviderLimits(provider), clock)
        async with gates[provider].open(query.until):
            return await ask(query)

    return in_turn


class _Gate:
    """One provider's queue."""

    def __init__(self, limits: ProviderLimits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._slots = asyncio.Semaphore(limits.at_once)
        self._turn = asyncio.Lock()  # fair: the first who asks is the first who gets it
        self._waiting = 0
        self._bucket = Bucket(limits.burst, clock.now())
        self._quiet_until = self._bucket.at

    @asynccontextmanager
    async def open(self, until: float) -> AsyncIterator[None]:
        self._refuse_beyond(until)
        self._waiting += 1
        try:
            await self._slots.acquire()
            try:
                await self._take_token()
            except BaseException:
                self._slots.release()
                raise
        finally:
            self._waiting -= 1
        try:
            yield
        except ToolFailure as failure:
            self._quiet_until = max(self._quiet_until, self._clock.now() + failure.retry_after_s)
            raise
        finally:
            self._slots.release()

    async def _take_token(self) -> None:
        async with self._turn:
            while (wait_s := self._wait_s(tokens=1)) > 0:
                await self._clock.sleep(wait_s)
            self._bucket = Bucket(self._bucket.tokens - 1, self._bucket.at)

    def _wait_s(self, tokens: int) -> float:
        """Seconds until that many tokens will have been given out."""
        now, rate = self._clock.now(), self._limits.per_second
        quiet_s = max(0.0, self._quiet_until - now)
        if rate is None:
            return quiet_s
        self._bucket = self._bucket.filled(rate, self._limits.burst, now)
        lacking = tokens - self._bucket.tokens
        return max(quiet_s, lacking / rate) if lacking > NEARLY_NONE else quiet_s

    def _refuse_beyond(self, until: float) -> None:
        wait_s = self._wait_s(tokens=self._waiting + 1)
        if wait_s > until - self._clock.now():
            raise ToolFailure(
                ToolErrorKind.RATE_LIMITED,
                f"{self._waiting} calls wait for {self._limits.provider} and this one would for {wait_s:.0f} s, longer "
                f"than it may; have fewer trajectories at once, or raise tools.timeout_s",
                retry_after_s=wait_s,
            )
