"""A connection that is opened when it is wanted, shared by all who want it, and opened anew after it was lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Generic, TypeVar

from rest_jax.core.errors import reason

CLOSE_S = 10.0
"""How long closing may take before it is broken off."""

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class _Keeper(Generic[T]):
    """The task that has entered the context, what it opened, and when it is to leave."""

    task: asyncio.Task[None]
    opened: asyncio.Future[T]
    leave: asyncio.Event


class Kept(Generic[T]):
    """What `open` opens, kept by a task of its own: scopes of anyio must be left by the task that entered them, and
    those who use a connection come and go."""

    def __init__(self, open: Callable[[], AbstractAsyncContextManager[T]], start_s: float) -> None:
        self._open = open
        self._start_s = start_s
        self._current: _Keeper[T] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self) -> T:
        """The connection, opened now if there is none. Raises ConnectionError with the reason when it does not open."""
        if self._current is None:
            self._current = self._begin()
        return await asyncio.shield(self._current.opened)

    def lose(self, connection: T) -> None:
        """Give up this connection, unless it was given up already: the next `get` opens another."""
        keeper = self._current
        if keeper is not None and keeper.opened.done() and keeper.opened.result() is connection:
            self._current = None
            keeper.leave.set()

    async def close(self) -> None:
        """Close the connection, and those given up that still close."""
        keeper, self._current = self._current, None
        if keeper is not None:
            keeper.leave.set()
            if not keeper.opened.done():
                keeper.task.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=CLOSE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _begin(self) -> _Keeper[T]:
        opened: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        leave = asyncio.Event()
        task = asyncio.create_task(self._keep(opened, leave))
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            _fail(opened, "it was closed")  # before it began

        task.add_done_callback(ended)
        return _Keeper(task, opened, leave)

    async def _keep(self, opened: asyncio.Future[T], leave: asyncio.Event) -> None:
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(self._start_s):
                    connection = await stack.enter_async_context(self._open())
                opened.set_result(connection)
                await leave.wait()
        except BaseException as error:
            reason = _reason(error)
            if opened.done():
                logger.warning("a connection broke: %s", reason)
            _fail(opened, reason)
            if not isinstance(error, Exception):
                raise
        finally:
            if self._current is not None and self._current.opened is opened:
                self._current = None


def _fail(opened: asyncio.Future[T], reason: str) -> None:
    if not opened.done():
        opened.set_exception(ConnectionError(reason))
        opened.exception()  # seen: those who waited for it may have gone


def _reason(error: BaseException) -> str:
    """The first error of a group in a few words."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return reason(error)
