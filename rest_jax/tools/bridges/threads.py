"""Blocking functions, awaited."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Threads:
    """At most `most` daemon threads at once, each for one call.

    A call that nobody waits for any more goes on (a thread cannot be stopped) and keeps its place till it ends; it
    does not keep the process from ending, as those of concurrent.futures would.
    """

    def __init__(self, most: int) -> None:
        self._places = asyncio.Semaphore(most)

    async def run(self, call: Callable[[], T]) -> T:
        """What the call returns or raises."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        await self._places.acquire()

        def settle(set_outcome: Callable[[Any], None], outcome: Any) -> None:
            self._places.release()
            if not done.done():
                set_outcome(outcome)

        def work() -> None:
            try:
                settled = done.set_result, call()
            except BaseException as error:
                # Others (SystemExit, StopIteration) would end more than this call.
                plain = isinstance(error, Exception) and not isinstance(error, StopIteration)
                settled = done.set_exception, error if plain else RuntimeError(repr(error))
            with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody waits
                loop.call_soon_threadsafe(settle, *settled)

        threading.Thread(target=work, name="tool-function", daemon=True).start()
        return await done
