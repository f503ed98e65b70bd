"""CPython without a sandbox: limits, a time-out and an empty environment, and nothing that holds a hostile program."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from rest_jax.tools.sandbox.child import environment, interpreter_arguments, run_child
from rest_jax.tools.sandbox.ran import Ran, Tier
from rest_jax.tools.sandbox.settings import PythonSettings


@asynccontextmanager
async def open_unsafe(settings: PythonSettings) -> AsyncIterator[Tier]:
    """A program runs as the adapter's own user, in a folder of its own that is removed after it.

    A process that leaves the program's session outlives it.
    """
    command = [sys.executable, *interpreter_arguments(settings)]

    async def run(code: str, timeout_s: float) -> Ran:
        folder = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="python-", ignore_cleanup_errors=True)
        try:
            return await run_child(
                command,
                code,
                timeout_s=timeout_s,
                output_bytes=settings.output_bytes,
                env=environment(folder.name),
                kill=_kill,
                cwd=folder.name,
            )
        finally:
            await asyncio.to_thread(folder.cleanup)

    yield Tier("unsafe", f"cpython-{sys.version.split()[0]}", "It is CPython's standard library.", run)


def _kill(process: Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
