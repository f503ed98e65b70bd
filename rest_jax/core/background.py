"""An asyncio loop in a thread of its own, for callers that are synchronous; it works in notebooks, whose loop runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class BackgroundLoop:
    """Runs coroutines for other threads until it is closed."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        return self._loop.is_closed()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin a coroutine; cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end and return what it does."""
        return self.start(work).result()

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function on the loop's thread, soon."""
        self._loop.call_soon_threadsafe(function, *arguments)

    def cancel_all(self) -> None:
        """Cancel what runs, and return when it has ended."""
        self.wait_for(_cancelled())

    def close(self) -> None:
        """Stop. What still runs would be left where it is: cancel it first."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancelled() -> None:
    running = asyncio.all_tasks() - {asyncio.current_task()}
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
