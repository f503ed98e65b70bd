"""Which sandbox is chosen, what is said of it, and one that is remote."""

from __future__ import annotations

import asyncio
import json
import logging
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from sandbox_here import needs_bwrap

from rest_jax.config.limits import checked
from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.core.errors import UserError
from rest_jax.tools.registry import ToolFailure
from rest_jax.tools.sandbox.python import open_python
from rest_jax.tools.sandbox.ran import Unavailable
from rest_jax.tools.sandbox.seccomp import AUDIT_ARCHITECTURES, NUMBERS, filter_of
from rest_jax.tools.sandbox.settings import PythonSettings

ServeApp = Callable[[Callable[[], web.Application]], str]


def python(settings: PythonSettings, *codes: str) -> tuple[str, list[ToolReply]]:
    async def main() -> tuple[str, list[ToolReply]]:
        async with open_python(settings) as (tool,):
            return tool.version, [await tool.run({"code": code}, "e") for code in codes]

    return asyncio.run(main())


def fake_bwrap(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program named bwrap, found before all others."""
    program = folder / "bwrap"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


OLD = ("echo bubblewrap 0.6.1", "bubblewrap 0.6.1 is too old", "install bubblewrap 0.8 or later")
FORBIDDEN = (
    '[ "$1" = --version ] && echo bubblewrap 0.9.0 && exit; echo "bwrap: No permissions" >&2; exit 1',
    "the sandbox did not begin (bwrap: No permissions)",
    "allow user namespaces",
)
BROKEN = ("exit 1", "bubblewrap does not run", "install bubblewrap 0.8 or later")


@pytest.mark.parametrize(("text", "why", "mend"), [OLD, FORBIDDEN, BROKEN])
def test_bubblewrap_that_does_not_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, text: str, why: str, mend: str
):
    # Without these two the command begins with bwrap itself, whoever runs the test.
    monkeypatch.setattr("rest_jax.tools.sandbox.bwrap.os.geteuid", lambda: 1000)
    monkeypatch.setattr("rest_jax.tools.sandbox.bwrap._first_to_die", tuple)
    fake_bwrap(tmp_path, text, monkeypatch)
    with pytest.raises(UserError) as error:
        python(PythonSettings(tier="bwrap"))
    assert why in str(error.value)
    assert mend in str(error.value)
    assert "\n" not in str(error.value)
    with caplog.at_level(logging.INFO):
        version, _ = python(PythonSettings())
    assert version.startswith("1+monty-")
    (line,) = caplog.messages
    assert line.startswith("python runs in the tier monty (1.")
    assert f"not bwrap: {why}" in line


def test_bubblewrap_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"no sandbox \(bwrap: bubblewrap is not installed; install bubblewrap"):
        python(PythonSettings(tier="bwrap"))


def test_without_any_sandbox_there_is_no_tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pydantic_monty", None)
    with pytest.raises(UserError) as error:
        python(PythonSettings())
    assert "bwrap: bubblewrap is not installed" in str(error.value)
    assert "monty: pydantic-monty is not installed" in str(error.value)
    assert "pip install 'rest_jax[python]'" in str(error.value)


def test_a_monty_whose_worker_does_not_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("MONTY_BIN", str(tmp_path / "monty"))
    with pytest.raises(
        UserError, match=r"the worker of pydantic-monty does not start .*; pip install 'rest_jax\[python\]'"
    ):
        python(PythonSettings(tier="monty"))


def test_a_monty_without_its_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("pydantic_monty._binary._script_dirs", list)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="could not locate the `monty` binary"):
        python(PythonSettings(tier="monty"))


@needs_bwrap
def test_bubblewrap_is_preferred_to_monty():
    assert python(PythonSettings())[0].startswith("1+bwrap-")


def test_unsafe_is_said_aloud(caplog: pytest.LogCaptureFixture):
    for _ in range(2):
        python(PythonSettings(tier="unsafe"))
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [message.partition(" (")[0] for message in said] == ["python runs UNSANDBOXED"] * 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (PythonSettings(tier="remote"), "url: the tier remote needs the address of a SandboxFusion server"),
        (PythonSettings(tier="monty", url="http://host"), "url: the tier monty uses no server"),
        (PythonSettings(memory_mib=1), "memory_mib: expected at least 64, got 1"),
        (PythonSettings(tier="none"), "tier: expected one of auto, monty, bwrap, remote, unsafe, got none"),
    ],
)
def test_settings_that_will_not_do(settings: PythonSettings, message: str):
    with pytest.raises(UserError, match=message):
        checked(settings)


# A remote sandbox: a server of the same shape that really runs what it gets.


async def run_code(request: web.Request) -> web.Response:
    asked = await request.json()
    assert asked["language"] == "python"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-S", "-c", asked["code"]), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        stdout, stderr = await asyncio.wait_for(process.communicate(), asked["run_timeout"])
    except TimeoutError:
        process.kill()
        await process.communicate()
        result = {"status": "TimeLimitExceeded", "execution_time": asked["run_timeout"], "return_code": None}
        return web.json_response({"status": "Failed", "message": "", "run_result": result, "files": {}})
    result = {"status": "Finished", "execution_time": 0.25, "return_code": process.returncode}
    result |= {"stdout": stdout.decode(), "stderr": stderr.decode()}
    status = "Failed" if process.returncode else "Success"
    return web.json_response({"status": status, "message": "", "run_result": result, "files": {}})


def sandbox_fusion(run: Callable[[web.Request], Any]) -> web.Application:
    app = web.Application()
    app.router.add_post("/run_code", run)
    return app


def test_a_remote_sandbox(serve_app: ServeApp):
    url = serve_app(lambda: sandbox_fusion(run_code))
    settings = PythonSettings(url=f"{url}/", timeout_s=20.0)
    version, (value, error, text) = python(settings, "print('a')\n6 * 7", "x = 1\n1 / 0", '\'"""\\\\\'')
    assert version.startswith(f"1+remote-sandbox-fusion@{url.removeprefix('http://')}.")
    assert value.content == "a\n42"
    assert value.data == {"status": "ok", "stdout": "a\n42\n", "stderr": "", "seconds": 0.25, "tier": "remote"}
    assert error.data["status"] == "error"
    assert error.content.endswith("ZeroDivisionError: division by zero")
    assert 'File "<code>", line 2, in <module>\n    1 / 0\n' in error.content
    assert text.content == '\'"""\\\\\''


def test_time_out_of_a_remote_program(serve_app: ServeApp):
    url = serve_app(lambda: sandbox_fusion(run_code))

    async def main() -> ToolReply:
        async with open_python(PythonSettings(tier="remote", url=url, timeout_s=20.0)) as (tool,):
            return await tool.run({"code": "while True: pass", "timeout_s": 0.2}, "e")

    assert asyncio.run(main()).data["status"] == "timeout"


def answering(reply: Any, status: int = 200) -> Callable[[web.Request], Any]:
    """A handler that runs the probe, and answers anything else with `reply`."""

    async def answer(request: web.Request) -> web.Response:
        if "6 * 7" in (await request.json())["code"]:
            return await run_code(request)
        return web.Response(status=status, body=reply if isinstance(reply, bytes) else json.dumps(reply).encode())

    return answer


@pytest.mark.parametrize(
    ("reply", "status", "kind", "message"),
    [
        ({"status": "SandboxError", "message": "no slot"}, 200, ToolErrorKind.INFRA, "failed: no slot"),
        ({"status": "Success"}, 200, ToolErrorKind.INFRA, "did not answer in"),
        ([], 200, ToolErrorKind.INFRA, "did not answer in"),
        ({"status": "Failed", "run_result": None}, 200, ToolErrorKind.INFRA, "did not answer in"),
        (b"<html>", 200, ToolErrorKind.INFRA, "did not answer in"),
        (b"\xff", 200, ToolErrorKind.INFRA, "did not answer in"),
        (b"[" * 100_000, 200, ToolErrorKind.INFRA, "did not answer in"),
        ({}, 500, ToolErrorKind.INFRA, "answered 500"),
        ({}, 302, ToolErrorKind.INFRA, "answered 302"),
        ({}, 429, ToolErrorKind.RATE_LIMITED, "answered 429"),
    ],
)
def test_failures_of_a_remote_sandbox(serve_app: ServeApp, reply: Any, status: int, kind: ToolErrorKind, message: str):
    url = serve_app(lambda: sandbox_fusion(answering(reply, status)))
    with pytest.raises(ToolFailure, match=message) as error:
        python(PythonSettings(tier="remote", url=url.replace("//", "//user:hunter2@")), "1")
    assert error.value.kind is kind
    assert "hunter2" not in str(error.value)


def test_a_remote_sandbox_says_when_to_come_back(serve_app: ServeApp):
    async def busy(request: web.Request) -> web.Response:
        if "6 * 7" in (await request.json())["code"]:
            return await run_code(request)
        return web.Response(status=429, headers={"Retry-After": "7"})

    url = serve_app(lambda: sandbox_fusion(busy))
    with pytest.raises(ToolFailure, match="answered 429") as error:
        python(PythonSettings(tier="remote", url=url), "1")
    assert error.value.retry_after_s == 7


def test_an_oversized_reply_of_a_remote_sandbox(serve_app: ServeApp):
    url = serve_app(lambda: sandbox_fusion(answering(b"x" * 2**20)))
    _, (reply,) = python(PythonSettings(tier="remote", url=url, output_kib=64), "1")
    assert reply.data["status"] == "output"


def test_a_remote_sandbox_that_is_not_there(unused_tcp_port: int):
    with pytest.raises(
        UserError, match=r"remote: the sandbox at 127.0.0.1:\d+ is out of reach .*; start the server, or correct its"
    ):
        python(PythonSettings(tier="remote", url=f"http://127.0.0.1:{unused_tcp_port}"))


@pytest.fixture
def unused_tcp_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


# The filter of system calls, run as the kernel would run it.


def verdict(machine: str, architecture: int, number: int, argument: int = 0) -> int:
    data: Mapping[int, int] = {0: number, 4: architecture, 16: argument}
    lines = list(struct.iter_unpack("=HBBI", filter_of(machine)))
    at = accumulator = 0
    while True:
        code, if_true, if_false, value = lines[at]
        at += 1
        match code:
            case 0x20:
                accumulator = data[value]
            case 0x15:
                at += if_true if accumulator == value else if_false
            case 0x35:
                at += if_true if accumulator >= value else if_false
            case 0x06:
                return value


ALLOW, FAIL, KILL = 0x7FFF0000, 0x00050001, 0x80000000


@pytest.mark.parametrize("machine", AUDIT_ARCHITECTURES)
def test_the_filter_of_system_calls(machine: str):
    column = list(AUDIT_ARCHITECTURES).index(machine)
    architecture = AUDIT_ARCHITECTURES[machine]
    numbers = {name: row[column] for name, row in NUMBERS.items()}
    assert {name for name, number in numbers.items() if verdict(machine, architecture, number) == FAIL} == set(numbers)
    families = {family for family in range(64) if verdict(machine, architecture, numbers["socket"], family) == ALLOW}
    assert families == {1, 2, 10}
    others = set(range(500)) - set(numbers.values())
    assert {verdict(machine, architecture, number) for number in others} == {ALLOW}
    assert verdict(machine, architecture, 0x40000000 + 41, 1) == FAIL
    assert verdict(machine, 0x40000003, 1) == KILL


def test_a_processor_without_a_filter():
    with pytest.raises(Unavailable, match="no system call filter for riscv64"):
        filter_of("riscv64")
