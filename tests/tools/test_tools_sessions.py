"""Sessions: begun explicitly, one call at a time, and never an empty state in silence."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from rest_jax.core.effects import ToolErrorKind
from rest_jax.tools.environments.sessions import Sessions
from rest_jax.tools.registry import ToolFailure


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def closed() -> list[str]:
    return []


@pytest.fixture
def sessions(clock: Clock, closed: list[str]) -> Sessions[str]:
    return Sessions(ttl_s=10, most=3, close=closed.append, clock=clock)


async def used(sessions: Sessions[str], episode: str) -> str:
    async with sessions.use(episode) as state:
        return state


async def kind(work: Awaitable[object]) -> ToolErrorKind:
    with pytest.raises(ToolFailure) as failure:
        await work
    return failure.value.kind


def in_loop(work: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await work()

    asyncio.run(run())


def test_an_episode_must_begin(sessions: Sessions[str], closed: list[str]):
    async def work() -> None:
        assert await kind(used(sessions, "a")) is ToolErrorKind.INFRA
        sessions.begin("a", "first")
        assert await used(sessions, "a") == "first"
        sessions.begin("a", "second")
        assert closed == ["first"]
        assert await used(sessions, "a") == "second"
        with pytest.raises(ToolFailure, match="whose call") as failure:
            sessions.begin("", "nobody's")
        assert failure.value.kind is ToolErrorKind.BAD_ARGUMENTS
        assert closed == ["first", "nobody's"]

    in_loop(work)


def test_an_unused_session_ends(sessions: Sessions[str], closed: list[str], clock: Clock):
    async def work() -> None:
        sessions.begin("a", "A")
        sessions.begin("b", "B")
        clock.now = 8
        await used(sessions, "b")
        clock.now = 11
        with pytest.raises(ToolFailure, match=r"session lost: .* went unused for 10 s") as failure:
            await used(sessions, "a")
        assert failure.value.kind is ToolErrorKind.INFRA
        assert closed == ["A"]
        assert await used(sessions, "b") == "B"

    in_loop(work)


def test_a_session_at_work_does_not_expire(sessions: Sessions[str], clock: Clock):
    async def work() -> None:
        sessions.begin("a", "A")
        async with sessions.use("a"):
            clock.now = 100
            sessions.begin("b", "B")
        assert await used(sessions, "a") == "A"

    in_loop(work)


def test_the_least_recently_used_gives_way_but_none_at_work(sessions: Sessions[str], closed: list[str]):
    async def work() -> None:
        for episode in "abc":
            sessions.begin(episode, episode.upper())
        await used(sessions, "a")
        sessions.begin("d", "D")
        assert closed == ["B"]
        async with sessions.use("c"):
            sessions.begin("e", "E")
            assert closed == ["B", "A"]
            async with sessions.use("d"), sessions.use("e"):
                with pytest.raises(ToolFailure, match="all 3 sessions are at work") as failure:
                    sessions.begin("f", "F")
        assert failure.value.kind is ToolErrorKind.RATE_LIMITED
        assert closed == ["B", "A", "F"]
        assert len(sessions) == 3

    in_loop(work)


def test_calls_of_an_episode_take_turns(sessions: Sessions[str]):
    order: list[int] = []

    async def one(number: int) -> None:
        async with sessions.use("a"):
            order.append(number)
            await asyncio.sleep(0)
            order.append(number)

    async def work() -> None:
        sessions.begin("a", "A")
        await asyncio.gather(*map(one, range(5)))
        assert order == [number for number in range(5) for _ in range(2)]

    in_loop(work)


def test_a_call_never_meets_a_state_that_began_while_it_waited(sessions: Sessions[str]):
    async def work() -> None:
        sessions.begin("a", "first")
        holding = sessions.use("a")
        assert await holding.__aenter__() == "first"
        waiting = asyncio.create_task(kind(used(sessions, "a")))
        await asyncio.sleep(0)
        sessions.begin("a", "second")
        assert await used(sessions, "a") == "second"
        with pytest.raises(ToolFailure, match="session lost"):
            await holding.__aexit__(None, None, None)
        assert await waiting is ToolErrorKind.INFRA
        assert await used(sessions, "a") == "second"

    in_loop(work)


@pytest.mark.parametrize(
    ("error", "survives"),
    [
        (ToolFailure(ToolErrorKind.BAD_ARGUMENTS, ""), True),
        (ToolFailure(ToolErrorKind.TOOL_ERROR, ""), True),
        (ToolFailure(ToolErrorKind.INFRA, ""), False),
        (ToolFailure(ToolErrorKind.TIMEOUT, ""), False),
        (ZeroDivisionError(), False),
        (asyncio.CancelledError(), False),
    ],
)
def test_a_failure_ends_the_session_unless_it_is_the_agents_own(
    sessions: Sessions[str], closed: list[str], error: BaseException, survives: bool
):
    async def work() -> None:
        sessions.begin("a", "A")
        with pytest.raises(type(error)):
            async with sessions.use("a"):
                raise error
        assert closed == ([] if survives else ["A"])
        assert len(sessions) == survives

    in_loop(work)
