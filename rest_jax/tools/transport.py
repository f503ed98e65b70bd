"""Batches of calls over HTTP: deadlines, retries, and a reply for every call whatever happens."""

from __future__ import annotations

import asyncio
import io
import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import aiohttp

from rest_jax.config.settings import ToolsSettings
from rest_jax.core.effects import ToolErrorKind, ToolFault, ToolReply
from rest_jax.core.errors import reason
from rest_jax.core.http import backoff_s
from rest_jax.tools import protocol
from rest_jax.tools.protocol import MAX_DEADLINE_S, Batch, Call, ProtocolError, Result

REQUESTS = 32
"""Requests in flight at once."""

GRACE_S = 5.0
"""What the network may take beyond the adapter's own deadline."""

FIRST_BACKOFF_S = 0.25
LAST_BACKOFF_S = 4.0
"""The longest wait before a retry: it begins at the first and doubles up to the last."""

RECONNECT_S = 0.5
"""The longest wait between two attempts to reach an adapter that does not listen (it is being restarted)."""

LOSSES = 2
"""A call during which the adapter was lost so often in a row is not sent again: it may be what ends the adapter."""

Report = Callable[[int, ToolReply], None]


class _RequestFailed(Exception):
    """A request failed as a whole: its calls that have no result yet share the fault."""

    def __init__(
        self,
        kind: ToolErrorKind,
        message: str,
        *,
        retryable: bool = False,
        retry_after_s: float = 0.0,
        lost: bool = False,
    ) -> None:
        super().__init__(message)
        self.fault = ToolFault(kind, message)
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.lost = lost
        """The connection broke: the adapter may have died of one of the calls."""


class Transport:
    """Speaks to one adapter. Must be made, used and closed on one running asyncio loop.

    A failure that may pass is retried `settings.retries` times with full-jitter back-off, but never for a stateful
    tool that may have run, nor for calls during which the adapter was lost twice in a row. An adapter that does not
    listen is waited for `settings.timeout_s` seconds.
    """

    def __init__(self, url: str, settings: ToolsSettings, token: str | None) -> None:
        self._url = url
        self._settings = settings
        self.stateful: frozenset[str] = frozenset()
        self._at_once: Mapping[str, int] = {}
        self._under_way: Counter[str] = Counter()
        """Calls without a final reply, by tool."""
        self._slots = asyncio.Semaphore(REQUESTS)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=REQUESTS + 1),  # however long they take, its health can be asked
            headers={"Authorization": f"Bearer {token}"} if token else None,
            timeout=_patience(settings.timeout_s),
            read_bufsize=protocol.MAX_BODY_BYTES,
        )

    async def health(self) -> dict[str, Any]:
        """What the adapter says of itself. Raises aiohttp.ClientError, TimeoutError or ProtocolError."""
        async with self._session.get(f"{self._url}/healthz", raise_for_status=True) as response:
            health = protocol.parse_health(await response.read())
        self.stateful = frozenset(health["stateful"])
        self._at_once = health.get("at_once", {})
        return health

    async def deliver(self, calls: Sequence[Call], report: Report) -> None:
        """Send calls as one batch and report exactly one reply for each, as soon as it is final."""
        waiting = {call.id: call for call in calls}
        losses = dict.fromkeys(waiting, 0)
        self._under_way.update(call.tool for call in calls)

        def settle(id: int, reply: ToolReply) -> None:
            self._under_way[waiting.pop(id).tool] -= 1
            report(id, reply)

        for retry in range(self._settings.retries + 1):
            if not waiting:
                return
            last = retry == self._settings.retries
            pause_s = backoff_s(retry, FIRST_BACKOFF_S, LAST_BACKOFF_S, random.random())
            sent = tuple(waiting.values())
            size = protocol.ROOMY_CALLS if retry else len(sent)  # the first batch may have had too little room
            batches = [sent[at : at + size] for at in range(0, len(sent), size)]
            deliveries = (self._deliver_once(batch, waiting, losses, settle, last) for batch in batches)
            pauses_s = await asyncio.gather(*deliveries)
            if waiting:
                await asyncio.sleep(max(pause_s, *pauses_s))

    async def _deliver_once(
        self, batch: tuple[Call, ...], waiting: dict[int, Call], losses: dict[int, int], settle: Report, last: bool
    ) -> float:
        """Settle the calls whose replies are final, which leave `waiting`, and count in `losses` how often in a row the
        adapter was lost with each of the others; returns for how many seconds to pause at least."""
        try:
            async for result in self._post(batch):
                if last or not result.retryable:
                    settle(result.id, result.reply)
        except _RequestFailed as error:
            for call in batch:
                if call.id not in waiting:
                    continue
                losses[call.id] = losses[call.id] + 1 if error.lost else 0
                final = last or not error.retryable or losses[call.id] == LOSSES
                if final or call.tool in self.stateful:
                    settle(call.id, ToolReply("", fault=error.fault))
            return error.retry_after_s
        losses.update((call.id, 0) for call in batch)
        return 0.0

    async def close(self) -> None:
        await self._session.close()

    async def _post(self, calls: tuple[Call, ...]) -> AsyncIterator[Result]:
        """The results of one request, each as it comes; raises _RequestFailed for those that never come."""
        missing = {call.id for call in calls}
        deadline_s = self._deadline_s(calls)
        try:
            async with self._slots, await self._connect(Batch(calls, deadline_s)) as response:
                await _raise_for_status(response)
                async for line in response.content:
                    result = protocol.parse_result(line)
                    if result.id not in missing:
                        raise ProtocolError(f"a result for call {result.id}, which waits for none")
                    missing.remove(result.id)
                    yield result
        except TimeoutError:
            message = f"the adapter at {self._url} did not answer within {deadline_s:g} s"
            raise _RequestFailed(ToolErrorKind.TIMEOUT, message) from None
        except (aiohttp.ClientError, OSError) as error:
            message = f"lost the adapter at {self._url} ({reason(error)})"
            raise _RequestFailed(ToolErrorKind.INFRA, message, retryable=True, lost=True) from error
        except ValueError as error:
            message = f"the adapter at {self._url} does not speak this protocol ({error})"
            raise _RequestFailed(ToolErrorKind.INFRA, message) from error
        if missing:
            message = f"the adapter at {self._url} left {len(missing)} of {len(calls)} calls without a result"
            raise _RequestFailed(ToolErrorKind.INFRA, message, retryable=True)

    def _deadline_s(self, calls: Sequence[Call]) -> float:
        """Enough for each of the calls to have its turn, although all that is under way may come before it, and then
        the time that is its own."""
        queued = sum(count for tool, count in self._under_way.items() if tool in self._at_once)
        places = [self._at_once[call.tool] for call in calls if call.tool in self._at_once]
        rounds = math.ceil(queued / min(places)) if places else 1
        return min(rounds * self._settings.timeout_s, MAX_DEADLINE_S)

    async def _connect(self, batch: Batch) -> aiohttp.ClientResponse:
        """The response to a batch; waits for an adapter that does not listen (no call was sent, so none is lost)."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._settings.timeout_s
        headers = {"Content-Type": "application/json", "Accept": protocol.LINES}
        while True:
            try:
                return await self._session.post(
                    f"{self._url}/v1/call",
                    data=io.BytesIO(protocol.dump_batch(batch)),
                    headers=headers,
                    timeout=_patience(batch.deadline_s),
                )
            except aiohttp.ClientConnectorError as error:
                if loop.time() >= give_up:
                    message = f"no adapter listens at {self._url} ({error})"
                    raise _RequestFailed(ToolErrorKind.INFRA, message) from error
            await asyncio.sleep(random.uniform(0, RECONNECT_S))


def _patience(deadline_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=deadline_s + GRACE_S)


async def _raise_for_status(response: aiohttp.ClientResponse) -> None:
    if response.status == 200:
        return
    limited = response.status == 429
    kind = ToolErrorKind.RATE_LIMITED if limited else ToolErrorKind.INFRA
    message = f"the adapter answered {response.status}: {(await response.text())[:200]}"
    retry_after = response.headers.get("Retry-After", "")
    raise _RequestFailed(
        kind,
        message,
        retryable=limited or response.status >= 500,
        retry_after_s=float(retry_after) if retry_after.isdecimal() else 0.0,
    )
