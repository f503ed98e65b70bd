"""Batches of calls over HTTP: deadlines, retries, and a reply for every call whatever happens."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import aiohttp

from rest_jax.config.settings import ToolsSettings
from rest_jax.core.effects import ToolErrorKind, ToolFault, ToolReply
from rest_jax.core.errors import reason
from rest_jax.tools import protocol
from rest_jax.tools.protocol import Batch, Call, ProtocolError, Result

TOKEN_VARIABLE = "REST_JAX_TOOLS_TOKEN"
"""Environment variable with the bearer token, for server and client."""

REQUESTS = 32
"""Requests in flight at once."""

GRACE_S = 5.0
"""What the network may take beyond the adapter's own deadline."""

FIRST_BACKOFF_S = 0.25
LAST_BACKOFF_S = 4.0
"""The longest wait before a retry: it begins at the first and doubles up to the last."""

RECONNECT_S = 0.5
"""The longest wait between two attempts to reach an adapter that does not listen (it is being restarted)."""

Report = Callable[[int, ToolReply], None]


class _RequestFailed(Exception):
    """A request failed as a whole: its calls that have no result yet share the fault."""

    def __init__(
        self, kind: ToolErrorKind, message: str, *, retryable: bool = False, retry_after_s: float = 0.0
    ) -> None:
        super().__init__(message)
        self.fault = ToolFault(kind, message)
        self.retryable = retryable
        self.retry_after_s = retry_after_s


class Transport:
    """Speaks to one adapter. Must be made, used and closed on one running asyncio loop.

    A failure that may pass is retried `settings.retries` times with full-jitter back-off, but never for a stateful
    tool that may have run. An adapter that does not listen is waited for `settings.timeout_s` seconds.
    """

    def __init__(self, url: str, settings: ToolsSettings) -> None:
        token = os.environ.get(TOKEN_VARIABLE)
        self._url = url
        self._settings = settings
        self.stateful: frozenset[str] = frozenset()
        self._slots = asyncio.Semaphore(REQUESTS)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=REQUESTS),
            headers={"Authorization": f"Bearer {token}"} if token else None,
            timeout=aiohttp.ClientTimeout(total=settings.timeout_s + GRACE_S),
            read_bufsize=protocol.MAX_BODY_BYTES,
        )

    async def health(self) -> dict[str, Any]:
        """What the adapter says of itself. Raises aiohttp.ClientError, TimeoutError or ProtocolError."""
        async with self._session.get(f"{self._url}/healthz", raise_for_status=True) as response:
            health = protocol.parse_health(await response.read())
        self.stateful = frozenset(health["stateful"])
        return health

    async def deliver(self, calls: Sequence[Call], report: Report) -> None:
        """Send calls as one batch and report exactly one reply for each, as soon as it is final."""
        waiting = {call.id: call for call in calls}
        for retry in range(self._settings.retries + 1):
            last = retry == self._settings.retries
            pause_s = random.uniform(0, min(LAST_BACKOFF_S, FIRST_BACKOFF_S * 2**retry))
            try:
                async for result in self._post(tuple(waiting.values())):
                    if last or not result.retryable:
                        del waiting[result.id]
                        report(result.id, result.reply)
            except _RequestFailed as error:
                pause_s = max(pause_s, error.retry_after_s)
                for call in tuple(waiting.values()):
                    if last or not error.retryable or call.tool in self.stateful:
                        del waiting[call.id]
                        report(call.id, ToolReply("", fault=error.fault))
            if not waiting:
                return
            await asyncio.sleep(pause_s)

    async def close(self) -> None:
        await self._session.close()

    async def _post(self, calls: tuple[Call, ...]) -> AsyncIterator[Result]:
        """The results of one request, each as it comes; raises _RequestFailed for those that never come."""
        missing = {call.id for call in calls}
        try:
            async with self._slots, await self._connect(Batch(calls, self._settings.timeout_s)) as response:
                await _raise_for_status(response)
                async for line in response.content:
                    result = protocol.parse_result(line)
                    if result.id not in missing:
                        raise ProtocolError(f"a result for call {result.id}, which waits for none")
                    missing.remove(result.id)
                    yield result
        except TimeoutError:
            message = f"the adapter at {self._url} did not answer within {self._settings.timeout_s:g} s"
            raise _RequestFailed(ToolErrorKind.TIMEOUT, message) from None
        except (aiohttp.ClientError, OSError) as error:
            message = f"lost the adapter at {self._url} ({reason(error)})"
            raise _RequestFailed(ToolErrorKind.INFRA, message, retryable=True) from error
        except ValueError as error:
            message = f"the adapter at {self._url} does not speak this protocol ({error})"
            raise _RequestFailed(ToolErrorKind.INFRA, message) from error
        if missing:
            message = f"the adapter at {self._url} left {len(missing)} of {len(calls)} calls without a result"
            raise _RequestFailed(ToolErrorKind.INFRA, message, retryable=True)

    async def _connect(self, batch: Batch) -> aiohttp.ClientResponse:
        """The response to a batch; waits for an adapter that does not listen (no call was sent, so none is lost)."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._settings.timeout_s
        headers = {"Content-Type": "application/json", "Accept": protocol.LINES}
        while True:
            try:
                return await self._session.post(
                    f"{self._url}/v1/call", data=protocol.dump_batch(batch), headers=headers
                )
            except aiohttp.ClientConnectorError as error:
                if loop.time() >= give_up:
                    message = f"no adapter listens at {self._url} ({error})"
                    raise _RequestFailed(ToolErrorKind.INFRA, message) from error
            await asyncio.sleep(random.uniform(0, RECONNECT_S))


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
