"""A process of our own in which games are played, by lines of JSON: engines block, and may crash."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from typing import Any

MAX_LINE_BYTES = 2**24
PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR")
"""The environment variables that the process sees: no keys."""


class GameProcess:
    """A Python module run as a process, started when it is first asked, and again after it has ended.

    It takes one request at a time. Its parts of the state end with it: whoever asks a new process for them is told.
    """

    def __init__(self, arguments: Sequence[str], limit_s: float) -> None:
        """`arguments` are those of `python`; an answer that takes more than `limit_s` seconds ends the process."""
        self._arguments = arguments
        self._limit_s = limit_s
        self._process: Process | None = None
        self._turn = asyncio.Lock()
        self._exchanges: set[asyncio.Task[Any]] = set()

    async def ask(self, request: Mapping[str, Any]) -> Any:
        """The process's answer. Raises ConnectionError when it ends before.

        Whoever no longer waits leaves the exchange to its end, so that the next answer is the next request's.
        """
        return await asyncio.shield(self.tell(request))

    def tell(self, request: Mapping[str, Any]) -> asyncio.Task[Any]:
        """Ask without waiting."""
        exchange = asyncio.create_task(self._exchange(json.dumps(request).encode() + b"\n"))
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._done)
        return exchange

    async def close(self) -> None:
        """End the process: it ends by itself when its input does."""
        for exchange in self._exchanges:
            exchange.cancel()
        await asyncio.gather(*self._exchanges, return_exceptions=True)
        if self._process is not None:
            await self._end(self._process)

    def _done(self, exchange: asyncio.Task[Any]) -> None:
        self._exchanges.discard(exchange)
        if not exchange.cancelled():
            exchange.exception()  # seen: whoever asked may have gone

    async def _exchange(self, line: bytes) -> Any:
        async with self._turn:
            if self._process is None:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *self._arguments,
                    stdin=PIPE,
                    stdout=PIPE,
                    env=game_environment(),
                    limit=MAX_LINE_BYTES,
                )
            process = self._process
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                async with asyncio.timeout(self._limit_s):
                    process.stdin.write(line)
                    await process.stdin.drain()
                    answer = await process.stdout.readline()
                if answer.endswith(b"\n"):
                    return json.loads(answer)
                why = "ended"
            except TimeoutError:
                why = f"did not answer within {self._limit_s:g} s"
            except (OSError, ValueError) as error:
                why = f"broke off ({error})"
            await self._end(process)
            raise ConnectionError(f"the process that plays {why}")

    async def _end(self, process: Process) -> None:
        self._process = None
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


def game_environment() -> dict[str, str]:
    """What such a process sees of ours: no keys."""
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {**passed_on, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
