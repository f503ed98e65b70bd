"""The cache and single flight, over real files."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from service_world import Backend, FakeTime, ask_for, down

from rest_jax.core.effects import ToolErrorKind
from rest_jax.tools.protocol import CacheStatus
from rest_jax.tools.registry import Tool, ToolFailure
from rest_jax.tools.service.cache import open_cache
from rest_jax.tools.service.query import Query, run_tool
from rest_jax.tools.service.service import Service
from rest_jax.tools.service.settings import CacheSettings


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "tools.sqlite"


@asynccontextmanager
async def serving(path: Path, now=lambda: 0.0, **settings):
    async with open_cache(CacheSettings(str(path), **settings), now) as cache:
        yield Service(run_tool, [cache])


async def statuses(service: Service, *queries: Query) -> list[CacheStatus]:
    return [(await service.answer(query)).cache for query in queries]


async def test_64_equal_queries_at_once_are_one_call(path: Path):
    backend = Backend()
    backend.open.clear()
    tool = backend.tool()
    async with serving(path) as service:
        calls = [asyncio.create_task(service.answer(ask_for(tool, episode=f"e{i}"))) for i in range(64)]
        while not backend.calls:
            await asyncio.sleep(0)
        backend.open.set()
        answers = await asyncio.gather(*calls)
        assert len(backend.calls) == 1
        assert [answer.cache for answer in answers] == [CacheStatus.MISS] + [CacheStatus.HIT] * 63
        assert {answer.reply.content for answer in answers} == {"about x"}
        assert await statuses(service, ask_for(tool)) == [CacheStatus.HIT]
    async with serving(path) as service:  # another process, another day
        answer = await service.answer(ask_for(tool))
    assert (answer.cache, answer.reply.content, answer.reply.data) == (CacheStatus.HIT, "about x", {"n": 1})
    assert len(backend.calls) == 1


async def test_the_first_may_leave_and_the_others_get_their_answer():
    backend = Backend()
    backend.open.clear()
    service = Service()
    first, second = (asyncio.create_task(service.answer(ask_for(backend.tool()))) for _ in range(2))
    while not backend.calls:
        await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    backend.open.set()
    assert (await second).reply.ok
    assert len(backend.calls) == 1


async def test_nobody_joins_work_that_is_given_up():
    stopped = asyncio.Event()
    backend = Backend()

    async def hangs(arguments, episode):
        if not stopped.is_set():
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()
        return await backend(arguments, episode)

    service, query = Service(), ask_for(replace(backend.tool(), run=hangs))
    alone = asyncio.create_task(service.answer(query))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    alone.cancel()
    await asyncio.gather(alone, return_exceptions=True)
    await stopped.wait()
    assert (await service.answer(query)).reply.ok


async def test_a_failure_is_shared_but_never_remembered(path: Path):
    backend = Backend(down(), ToolFailure(ToolErrorKind.TOOL_ERROR, "no page"))
    async with serving(path) as service:
        both = await asyncio.gather(
            *(service.answer(ask_for(backend.tool())) for _ in range(2)), return_exceptions=True
        )
        assert [str(failure) for failure in both] == ["503", "503"]
        answer = await service.answer(ask_for(backend.tool()))
        assert (answer.reply.fault.kind, answer.cache) == (ToolErrorKind.TOOL_ERROR, CacheStatus.BYPASS)
        assert await statuses(service, *[ask_for(backend.tool())] * 2) == [CacheStatus.MISS, CacheStatus.HIT]
    assert len(backend.calls) == 3


async def test_what_differs_in_anything_that_decides_the_answer_is_asked(path: Path):
    backend = Backend()
    tools = [
        backend.tool(),
        backend.tool(version="2"),
        backend.tool(name="news"),
        backend.tool(provider="brave"),
    ]
    async with serving(path) as service:
        for tool in tools:
            assert await statuses(service, ask_for(tool), ask_for(tool, "y")) == [CacheStatus.MISS] * 2
        same = Query(tools[0], {"k": 1, "query": "x"}), Query(tools[0], {"query": "x", "k": 1})
        assert await statuses(service, *same) == [CacheStatus.MISS, CacheStatus.HIT]


@pytest.mark.parametrize(
    "settings",
    [{"stateful": True}, {"deterministic": False, "provider": ""}, {"deterministic": False, "provider": "sandbox"}],
    ids=["stateful", "own and by chance", "a provider's and by chance"],
)
async def test_tools_that_are_always_asked(path: Path, settings: dict):
    backend = Backend()
    async with serving(path) as service:
        assert await statuses(service, *[ask_for(backend.tool(**settings))] * 3) == [CacheStatus.BYPASS] * 3
    assert len(backend.calls) == 3


@pytest.mark.parametrize("settings", [{"stateful": True}, {"deterministic": False}], ids=["stateful", "by chance"])
async def test_equal_calls_at_once_of_a_tool_that_is_always_asked(settings: dict):
    backend = Backend()
    service, query = Service(), ask_for(backend.tool(**settings))
    await asyncio.gather(*(service.answer(query) for _ in range(5)))
    assert len(backend.calls) == 5


async def test_arguments_without_a_canonical_form_are_asked_and_forgotten(path: Path):
    backend = Backend()
    odd = [Query(backend.tool(), {"query": value}) for value in (float("nan"), "\ud800")]
    async with serving(path) as service:
        assert await service.recall(odd) == [None, None]
        assert await statuses(service, *odd) == [CacheStatus.BYPASS] * 2


async def test_answers_of_a_provider_age_and_a_jumping_clock_hides_no_age(path: Path):
    time, backend = FakeTime(), Backend()
    tool, sure = backend.tool(deterministic=False, may_be_old=True), backend.tool(name="sum", provider="")
    async with serving(path, lambda: time.seconds, ttl_s=100) as service:

        async def asked(seconds: float) -> bool:
            """Whether the tool is asked at that time."""
            time.seconds = seconds
            before = len(backend.calls)
            assert (await service.answer(ask_for(tool))).reply.ok
            return len(backend.calls) > before

        assert [await asked(at) for at in (1000, 1099, 1100, 1199)] == [True, False, True, False]
        assert await asked(10**9)  # the clock jumps ahead
        assert await asked(1200)  # and back: how old the last answer is cannot be known
        assert not await asked(1250)
        assert await asked(1300)
        assert await statuses(service, ask_for(sure)) == [CacheStatus.MISS]
        for seconds in (10**9, 0, -(10**9)):
            time.seconds = seconds
            assert await statuses(service, ask_for(sure)) == [CacheStatus.HIT]


async def test_the_least_recently_used_answers_go_first(path: Path):
    backend = Backend()

    async def long(arguments, episode):
        await backend(arguments, episode)
        return replace(await backend(arguments, episode), content=arguments["query"] * 10_000)

    tool = replace(backend.tool(), run=long)
    async with serving(path, megabytes=1) as service:
        for number in range(120):  # of 30 kB each: 3.6 MB
            await service.answer(ask_for(tool, f"{number:03d}"))
            assert (await service.answer(ask_for(tool, "000"))).cache is CacheStatus.HIT
        known = await service.recall([ask_for(tool, f"{number:03d}") for number in range(120)])
        kept = [number for number, answer in enumerate(known) if answer is not None]
    assert kept[0] == 0
    assert kept[1:] == list(range(kept[1], 120))
    assert 20 <= len(kept) <= 35
    assert path.stat().st_size <= 1.2 * 2**20


async def test_4000_answers_are_one_look_at_the_disk(path: Path):
    backend = Backend()
    queries = [ask_for(backend.tool(), str(number)) for number in range(4000)]
    async with serving(path) as service:
        await asyncio.gather(*(service.answer(query) for query in queries))
    statements: list[str] = []
    async with open_cache(CacheSettings(str(path))) as cache:
        await cache.recall(queries[:1])
        await cache._do(lambda: cache._opened()._database.set_trace_callback(statements.append))
        answers = await Service(run_tool, [cache]).recall(queries)
    assert [answer.reply.content for answer in answers] == [f"about {number}" for number in range(4000)]
    assert len(statements) == 1
    assert len(backend.calls) == 4000


async def use(path: Path, tool: Tool, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Ask much of a service whose cache is broken; returns the warnings."""
    caplog.set_level(logging.WARNING)
    async with serving(path) as service:
        for number in range(5):
            answers = await asyncio.gather(*(service.answer(ask_for(tool, f"{number}.{i}")) for i in range(20)))
            assert all(answer.reply.ok for answer in answers)
    return [record.getMessage() for record in caplog.records]


async def test_a_damaged_file_turns_the_cache_off_with_one_warning(path: Path, caplog: pytest.LogCaptureFixture):
    path.parent.mkdir()
    path.write_bytes(b"not a database " * 1000)
    backend = Backend()
    (warning,) = await use(path, backend.tool(), caplog)
    assert warning == (
        f"the cache {path} is off from here on (file is not a database); calls go on without it: free some room or "
        f"remove the file, then start again"
    )
    assert len(backend.calls) == 100


async def test_a_file_damaged_while_it_is_used(path: Path, caplog: pytest.LogCaptureFixture):
    backend = Backend()
    async with serving(path) as service:
        await asyncio.gather(*(service.answer(ask_for(backend.tool(), str(i))) for i in range(500)))
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    assert len(await use(path, backend.tool(), caplog)) == 1


async def test_a_folder_in_the_files_place(path: Path, caplog: pytest.LogCaptureFixture):
    path.mkdir(parents=True)
    assert len(await use(path, Backend().tool(), caplog)) == 1


async def test_a_full_disk(path: Path):
    """No file of the process may grow beyond 64 kB: what a full disk looks like to it."""
    script = """if True:
        import asyncio, logging, resource, sys
        sys.path[:0] = sys.argv[2:]
        from service_world import Backend, ask_for
        from pathlib import Path
        from rest_jax.tools.service.cache import open_cache
        from rest_jax.tools.service.query import run_tool
        from rest_jax.tools.service.service import Service
        from rest_jax.tools.service.settings import CacheSettings
        logging.basicConfig(stream=sys.stdout, format="%(message)s")
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
        async def main():
            backend = Backend()
            async with open_cache(CacheSettings(sys.argv[1])) as cache:
                service = Service(run_tool, [cache])
                for number in range(2000):
                    assert (await service.answer(ask_for(backend.tool(), f"{number}" * 100))).reply.ok
            print(len(backend.calls))
        asyncio.run(main())
    """
    folders = [str(Path(__file__).parent), *sys.path]
    ran = subprocess.run([sys.executable, "-c", script, str(path), *folders], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    warning, calls = ran.stdout.splitlines()
    assert "is off from here on (" in warning
    assert calls == "2000"


async def test_two_processes_may_share_a_file(path: Path):
    backend = Backend()
    async with serving(path) as one, serving(path) as other:
        for number in range(50):
            first, second = (one, other) if number % 2 else (other, one)
            await first.answer(ask_for(backend.tool(), str(number)))
            while (await second.answer(ask_for(backend.tool(), str(number)))).cache is not CacheStatus.HIT:
                pass  # written a moment later
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM answers").fetchone() == (50,)
    database.close()


async def test_a_slow_disk_does_not_stop_the_loop(path: Path):
    """While another process holds the file, other coroutines run."""
    async with open_cache(CacheSettings(str(path))) as cache:
        await cache.recall([ask_for(Backend().tool())])
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN EXCLUSIVE")
        service, ticks = Service(run_tool, [cache]), 0
        answer = await service.answer(ask_for(Backend().tool()))
        assert answer.cache is CacheStatus.MISS
        for _ in range(100):
            ticks += 1
            await asyncio.sleep(0.001)
        assert cache._writing is not None  # it still waits for the file
        blocker.execute("COMMIT")
        blocker.close()
    assert ticks == 100
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM answers").fetchone() == (1,)
    database.close()
