"""A real server on loopback, in a thread of the test's own process, so that tests can bring their own tools."""

from __future__ import annotations

import asyncio
import inspect
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from aiohttp import web
from strangers import Serve, app_of

from rest_jax.tools import server

ServeApp = Callable[[Callable[[], web.Application]], str]


HANGS_S = 300.0
"""A coroutine that takes longer hangs."""


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test that is a coroutine has an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    asyncio.run(asyncio.wait_for(pyfuncitem.obj(**arguments), HANGS_S))
    return True


@pytest.fixture
def serve_app(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServeApp]:
    """serve(make_app) serves the application that `make_app` returns until the test ends; gives its URL."""
    monkeypatch.setattr(server, "SHUTDOWN_S", 0.1)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    runners: list[web.AppRunner] = []

    async def start(make_app: Callable[[], web.Application]) -> str:
        runner = server.runner_of(make_app())
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def stop() -> None:
        for runner in runners:
            await runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    yield lambda make_app: asyncio.run_coroutine_threadsafe(start(make_app), loop).result()
    asyncio.run_coroutine_threadsafe(stop(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def serve(serve_app: ServeApp) -> Serve:
    """serve(handler) answers every request by `handler` until the test ends; gives its URL."""
    return lambda handler: serve_app(lambda: app_of(handler))


@pytest.fixture
def nobody() -> Iterator[str]:
    """A URL at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
