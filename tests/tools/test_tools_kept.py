"""A kept connection: opened once for all who want it, opened anew after it was lost, closed by the task that opened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from rest_jax.tools.bridges.kept import Kept


class Server:
    """Notes what is opened and closed, and by which task."""

    def __init__(self) -> None:
        self.opened: list[int] = []
        self.closed: list[int] = []
        self.let_in = asyncio.Event()
        self.let_in.set()
        self.refuse = False

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[int]:
        await self.let_in.wait()
        if self.refuse:
            raise ExceptionGroup("several", [OSError("no way in"), OSError("nor here")])
        task, number = asyncio.current_task(), len(self.opened) + 1
        self.opened.append(number)
        try:
            yield number
        finally:
            assert asyncio.current_task() is task
            self.closed.append(number)


def kept(work: Callable[[Server, Kept[int]], Awaitable[None]], start_s: float = 60) -> Server:
    async def run() -> Server:
        server = Server()
        connection = Kept(server.connect, start_s)
        await work(server, connection)
        await connection.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return server

    return asyncio.run(run())


def test_all_share_one_until_it_is_lost():
    async def work(server: Server, connection: Kept[int]) -> None:
        assert await asyncio.gather(*(connection.get() for _ in range(5))) == [1] * 5
        connection.lose(1)
        assert await connection.get() == 2
        connection.lose(1)  # told late, by another who used the first
        assert await connection.get() == 2

    server = kept(work)
    assert (server.opened, sorted(server.closed)) == ([1, 2], [1, 2])


def test_what_does_not_open_is_tried_again_at_the_next_wish():
    async def work(server: Server, connection: Kept[int]) -> None:
        server.refuse = True
        with pytest.raises(ConnectionError, match="no way in"):
            await connection.get()
        server.refuse = False
        assert await connection.get() == 1

    kept(work)


def test_opening_has_its_time():
    async def work(server: Server, connection: Kept[int]) -> None:
        server.let_in.clear()
        with pytest.raises(ConnectionError, match="TimeoutError"):
            await connection.get()

    assert kept(work, start_s=0.01).opened == []


def test_one_who_no_longer_waits_leaves_the_opening_to_the_others():
    async def work(server: Server, connection: Kept[int]) -> None:
        server.let_in.clear()
        first, second = (asyncio.create_task(connection.get()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        server.let_in.set()
        assert await second == 1
        assert first.cancelled()

    kept(work)


def test_closing_breaks_off_an_opening():
    async def work(server: Server, connection: Kept[int]) -> None:
        server.let_in.clear()
        waiting = asyncio.create_task(connection.get())
        await asyncio.sleep(0)
        await connection.close()
        with pytest.raises(ConnectionError):
            await waiting

    assert kept(work).opened == []
