"""A program in a process of its own: begun, watched, and ended with everything that it started."""

from __future__ import annotations

import asyncio
import math
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import resources
from typing import Any

from rest_jax.core.effects import ToolErrorKind
from rest_jax.tools.registry import ToolFailure
from rest_jax.tools.sandbox.ran import Ran, Status, ended
from rest_jax.tools.sandbox.settings import PythonSettings

BEGIN_S = 30.0
"""A sandbox that has not begun by then is held to be broken. It takes milliseconds on an idle machine."""

END_S = 10.0
"""The same of one that has been killed and has not ended."""

OPEN_FILES = 64

Kill = Callable[[Process], None]


def program() -> str:
    """The text of `program.py`."""
    return resources.files("rest_jax.tools.sandbox").joinpath("program.py").read_text(encoding="utf-8")


def interpreter_arguments(settings: PythonSettings) -> tuple[str, ...]:
    """Arguments of an interpreter that runs `program.py` under the limits; without site packages."""
    limits = {
        "RLIMIT_AS": settings.memory_bytes,
        "RLIMIT_CPU": (math.ceil(settings.timeout_s) + 1) * settings.processes,  # the clock on the wall comes first
        "RLIMIT_NPROC": settings.processes,
        "RLIMIT_FSIZE": settings.files_bytes,
        "RLIMIT_NOFILE": OPEN_FILES,
        "RLIMIT_CORE": 0,
    }
    return ("-S", "-B", "-c", f"{program()}\nmain()", *(f"{name}={value}" for name, value in limits.items()))


def environment(home: str) -> dict[str, str]:
    """All of a program's environment. A fixed hash seed gives sets one order in every call."""
    return {"HOME": home, "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0", "PYTHONSAFEPATH": "1"}


async def run_child(
    command: Sequence[str],
    code: str,
    *,
    timeout_s: float,
    output_bytes: int,
    env: Mapping[str, str],
    kill: Kill,
    cwd: str | None = None,
    pass_fds: Sequence[int] = (),
) -> Ran:
    """Run `command`, which ends in an interpreter of `program.py`; the clock starts when the program begins.

    However this ends, also by cancellation, `kill` has been called and the process is gone.
    Raises ToolFailure (infra) when the program cannot be begun.
    """
    beginning = asyncio.create_task(_begin(command, code, kill, env=env, cwd=cwd, pass_fds=pass_fds))
    try:
        process = await asyncio.shield(beginning)
    except asyncio.CancelledError:
        # Only now: killed while it is being built, a sandbox leaves parts behind, and asyncio waits for them for ever.
        with suppress(ToolFailure):
            await _end(await beginning, kill)
        raise
    try:
        return await _watch(process, timeout_s, output_bytes, kill)
    finally:
        await _end(process, kill)


async def _begin(command: Sequence[str], code: str, kill: Kill, **place: Any) -> Process:
    """Start the process, hand over the code, and wait for the byte that it writes before any code runs: nothing that a
    program does can pass for a sandbox that did not begin."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True, **place
        )
    except OSError as error:
        raise _infra(f"the sandbox cannot be started ({error})") from error
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(BEGIN_S):
            with suppress(ConnectionError):
                process.stdin.write(code.encode())
                await process.stdin.drain()
            process.stdin.close()
            if await process.stdout.read(1):
                return process
            reason = (await process.stderr.read()).decode(errors="replace").strip().rpartition("\n")[2]
    except TimeoutError:
        reason = f"it took more than {BEGIN_S:g} s"
    await _end(process, kill)
    raise _infra(f"the sandbox did not begin ({reason or 'it said nothing'})")


async def _end(process: Process, kill: Kill) -> None:
    kill(process)
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), END_S)


async def _watch(process: Process, timeout_s: float, output_bytes: int, kill: Kill) -> Ran:
    loop = asyncio.get_running_loop()
    began = loop.time()
    why: list[Status] = []

    def stop(status: Status) -> None:
        why.append(status)
        kill(process)

    async def collect(reader: asyncio.StreamReader | None) -> str:
        assert reader is not None
        kept = bytearray()
        while chunk := await reader.read(2**16):
            kept += chunk[: output_bytes - len(kept)]
            if len(kept) >= output_bytes and not why:
                stop("output")
        return kept.decode(errors="replace")

    deadline = loop.call_later(timeout_s, stop, "timeout")
    try:
        async with asyncio.timeout(timeout_s + END_S):
            stdout, stderr = await asyncio.gather(collect(process.stdout), collect(process.stderr))
            returncode = await process.wait()
    except TimeoutError:
        raise _infra("the sandbox did not end when it was killed") from None
    finally:
        deadline.cancel()
    # An exit code of 137 looks the same under bubblewrap: whoever feigns it gains a call that is not held for it.
    if not why and returncode in (-signal.SIGKILL, 128 + signal.SIGKILL):
        raise _infra("something outside killed the program (the machine may be out of memory)")
    ran = ended(returncode, stdout, stderr, loop.time() - began)
    return replace(ran, status=why[0]) if why else ran


def _infra(message: str) -> ToolFailure:
    return ToolFailure(ToolErrorKind.INFRA, message)
