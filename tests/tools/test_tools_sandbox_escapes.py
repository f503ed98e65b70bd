"""Hostile programs, sent to a real server in every tier that runs here: all are contained, and it goes on answering.

Programs that try to get out are also run without a sandbox, where each of them succeeds: else it would show nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from sandbox_here import BWRAP

from rest_jax.tools.sandbox.python import open_python
from rest_jax.tools.sandbox.settings import PythonSettings
from rest_jax.tools.server import create_app

SECRET = "hunter2-7f3a"
SETTINGS = {"timeout_s": 30.0, "memory_mib": 128}
SHORT_S = 0.4
"""Time for programs that would use up any."""


class Server:
    """An adapter with the tool `python` in one tier, on a loop in a thread of its own."""

    def __init__(self, tier: str) -> None:
        self.tier = tier
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._stack = AsyncExitStack()
        self.url = self._wait(self._start(tier))

    async def _start(self, tier: str) -> str:
        # Without a sandbox all of the user's processes count.
        processes = 10**6 if tier == "unsafe" else PythonSettings().processes
        settings = PythonSettings(tier=tier, processes=processes, **SETTINGS)
        tools = await self._stack.enter_async_context(open_python(settings))
        runner = web.AppRunner(create_app(tools, timeout_s=60), shutdown_timeout=0.1)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    def _wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)

    def run(self, code: str, timeout_s: float = 30.0) -> dict[str, Any]:
        """The reply to a program; that it is one, and that the server answers in less than a second afterwards."""
        call = {"id": 1, "tool": "python", "arguments": {"code": code, "timeout_s": timeout_s}}
        body = json.dumps({"deadline_ms": 60_000, "calls": [call]}).encode()
        request = urllib.request.Request(f"{self.url}/v1/call", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            result = json.load(response)["results"][0]
        began = time.perf_counter()
        with urllib.request.urlopen(f"{self.url}/healthz", timeout=60) as response:
            assert response.status == 200
        assert time.perf_counter() - began < 1
        assert result["ok"], result["error"]
        return result

    def close(self) -> None:
        self._wait(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module", params=["monty", BWRAP])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = Server(request.param)
    yield server
    server.close()


@pytest.fixture(scope="module")
def unsafe() -> Iterator[Server]:
    server = Server("unsafe")
    yield server
    server.close()


class World:
    """What a program must not reach: a folder that is open to all, a process, a listening socket, the environment."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="outside-"))
        self.folder.chmod(0o777)
        (self.folder / "secret").write_text(SECRET)
        (self.folder / "secret").chmod(0o666)
        self.victim = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, env={"PASSWORD": SECRET})
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        # A number that only this test's sleeping processes carry in their command line.
        self.nap = str(10**6 + self.victim.pid)

    def filled(self, code: str) -> str:
        values = {"FOLDER": self.folder, "VICTIM": self.victim.pid, "PORT": self.listener.getsockname()[1]}
        for name, value in {**values, "NAP": self.nap}.items():
            code = code.replace(name, str(value))
        return code

    def damage(self, said: str) -> list[str]:
        """What the program did or learnt; empty if it was contained."""
        found = ["it said so"] if "ESCAPED" in said else []
        if SECRET in said:
            found.append("it read a secret")
        if [path.name for path in self.folder.iterdir()] != ["secret"] or self._secret() != SECRET:
            found.append("it wrote a file")
        if self.victim.poll() is not None:
            found.append("it killed a process")
        try:
            self.listener.accept()[0].close()
            found.append("it connected")
        except BlockingIOError:
            pass
        if self.orphans():
            found.append("it left a process")
        return found

    def orphans(self) -> list[int]:
        """Processes that sleep for `nap` seconds."""
        found = []
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdecimal() and self.nap.encode() in (folder / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                continue
        return found

    def _secret(self) -> str:
        return (self.folder / "secret").read_text()

    def close(self) -> None:
        for orphan in self.orphans():
            os.kill(orphan, 9)
        self.victim.kill()
        self.victim.communicate()
        self.listener.close()
        shutil.rmtree(self.folder)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REST_JAX_PASSWORD", SECRET)
        world = World()
        yield world
        world.close()


@pytest.fixture
def doomed_world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


ATTACKS = {
    "environment": """
import os
print(dict(os.environ))
for process in os.listdir("/proc"):
    try:
        text = open(f"/proc/{process}/environ").read()
        if text.startswith("PASSWORD="):
            print(text)
    except OSError:
        pass
""",
    "read a file": """
for path in ("FOLDER/secret", "/proc/1/rootFOLDER/secret", "/proc/self/rootFOLDER/secret", "../../../..FOLDER/secret"):
    try:
        print(open(path).read())
    except OSError:
        pass
""",
    "write a file": """
try:
    open("FOLDER/mine", "w").write("here")
except OSError:
    pass
open("FOLDER/secret", "w").write("changed")
""",
    "write through a symbolic link": """
import os
os.symlink("FOLDER", "link")
print(open("link/secret").read())
open("link/secret", "w").write("changed")
""",
    "hard link": """
import os
os.link("FOLDER/secret", "FOLDER/link")
""",
    "connect to the machine": """
import socket
socket.create_connection(("127.0.0.1", PORT), 1)
""",
    "other processes": """
import os
for process in os.listdir("/proc"):
    if process.isdecimal() and int(process) not in (os.getpid(), os.getppid()):
        print("ESCAPED", open(f"/proc/{process}/cmdline").read()[:20])
        break
""",
    "kill": """
import os
os.kill(VICTIM, 9)
""",
    "orphan": """
import subprocess
subprocess.Popen(["/bin/sleep", "NAP"], start_new_session=True, stdin=-3, stdout=-3, stderr=-3)
""",
    "daemon": """
import os
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for stream in (0, 1, 2):
            os.close(stream)
        os.execv("/bin/sleep", ["/bin/sleep", "NAP"])
    os._exit(0)
os.wait()
print("left")
""",
    "hidden memory": """
import os
os.write(os.memfd_create("mine"), b"x" * 2**20)
print("ESCAPED")
""",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_program_that_wants_out_is_held(server: Server, world: World, attack: str):
    result = server.run(world.filled(ATTACKS[attack]))
    assert world.damage(json.dumps(result)) == []


@pytest.mark.parametrize("attack", ATTACKS)
def test_without_a_sandbox_the_same_program_gets_out(unsafe: Server, doomed_world: World, attack: str):
    result = unsafe.run(doomed_world.filled(ATTACKS[attack]))
    assert doomed_world.damage(json.dumps(result)) != []


# These could do harm without a sandbox, or need what a machine may not have: they say themselves that they got out.
WORSE = {
    "metadata address": """
import socket
socket.create_connection(("169.254.169.254", 80), 1)
print("ESCAPED")
""",
    "name server": """
import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"hello", ("8.8.8.8", 53))
print("ESCAPED")
""",
    "hypervisor": """
import socket
socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
print("ESCAPED")
""",
    "kill all": """
import os
os.kill(-1, 9)
print("ESCAPED")
""",
    "write wherever it can": """
import os
for folder in " usr usr/lib etc dev dev/shm bin lib root home proc sys run var var/tmp".split(" "):
    try:
        open(f"/{folder}/mine", "w").write("here")
        print("ESCAPED", folder)
    except OSError:
        pass
""",
    "raise a limit": """
import resource
for name in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE, resource.RLIMIT_CPU):
    try:
        resource.setrlimit(name, (-1, -1))
        print("ESCAPED", name)
    except (OSError, ValueError):
        pass
""",
    "user namespace": """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
print("ESCAPED" if libc.unshare(0x10000000) == 0 else os.strerror(ctypes.get_errno()))
""",
    "become root": """
import os
for become in (os.setuid, os.setgid, lambda id: os.setgroups([id]), lambda id: os.chroot("/tmp")):
    try:
        become(0)
        print("ESCAPED")
    except OSError:
        pass
""",
    "object graph": """
for kind in ().__class__.__base__.__subclasses__():
    if kind.__name__ == "Popen":
        print(kind(["cat", "/etc/shadow"]))
""",
    "forged failure of the sandbox": """
import os
os.write(2, b"bwrap: Creating new namespace failed\\n")
os._exit(1)
""",
    "worker's own pipe": """
import os
for number in range(3, 64):
    try:
        os.write(number, b"x" * 100)
        print("ESCAPED", number)
    except OSError:
        pass
""",
}


@pytest.mark.parametrize("attack", WORSE)
def test_worse(server: Server, world: World, attack: str):
    assert world.damage(json.dumps(server.run(WORSE[attack]))) == []


GREEDY = {
    "infinite output": ("while True:\n    print('x' * 1000)", {"output"}),
    "infinite errors": ("import sys\nwhile True:\n    print('x' * 1000, file=sys.stderr)", {"output"}),
    "memory bomb": ("x = []\nwhile True:\n    x.append('x' * 10**6 + str(len(x)))", {"memory"}),
    "memory at once": ("x = [0] * 10**10", {"memory"}),
    "deep recursion": ("def f():\n    return f()\nf()", {"error"}),
    "deep structure": ("a = []\nfor _ in range(10**5):\n    a = [a]\na", {"ok", "error"}),
    "long integer": ("print(9 ** 9 ** 6 % 10)", {"ok"}),
    "nested brackets": ("(" * 20_000 + ")" * 20_000, {"error"}),
    "long sum": ("+".join("1" * 20_000), {"ok", "error"}),
    "no text": ("\0", {"error"}),
    "huge file": ("open('file', 'wb').write(b'x' * 10**8)", {"error"}),
    "many files": ("for i in range(10**6):\n    open(str(i), 'w').write('x' * 10**6)", {"error"}),
    "segmentation fault": ("import ctypes\nctypes.string_at(0)", {"killed", "error"}),
    "abort": ("import os\nos.abort()", {"killed", "error"}),
}
"""Programs that take more than there is; how they end."""

ENDLESS = {
    "fork bomb": "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
    "threads": "import threading\nwhile True:\n    threading.Thread(target=threading.Event().wait).start()",
    "loop": "while True:\n    pass",
    "files without end": "n = 0\nwhile True:\n    open(f'/tmp/{n}', 'w').close()\n    n += 1",
    "sleep": "import time\ntime.sleep(1000)",
    "silent sleep": "import os, time\nos.close(1)\nos.close(2)\ntime.sleep(1000)",
    "recursion without a limit": "import sys\nsys.setrecursionlimit(10**9)\ndef f():\n    return f()\nf()",
    "vast value": "a = [0] * 10\nfor _ in range(12):\n    a = [a] * 10\na",
    "huge integer": "10 ** 10 ** 8",
    "regular expression": "import re\nre.match('(a+)+$', 'a' * 40 + 'b')",
}
"""Programs that would go on for ever, or until memory is full; Monty refuses some."""


@pytest.mark.parametrize("name", GREEDY)
def test_a_greedy_program_is_stopped(server: Server, name: str):
    code, statuses = GREEDY[name]
    data = server.run(code)["data"]
    assert data["status"] in statuses, data


@pytest.mark.parametrize("name", ENDLESS)
def test_an_endless_program_is_stopped(server: Server, name: str):
    data = server.run(ENDLESS[name], SHORT_S)["data"]
    allowed = (
        {"timeout", "memory", "output", "error", "ok"} if server.tier == "monty" else {"timeout", "memory", "error"}
    )
    assert data["status"] in allowed, data
    assert data["seconds"] < 20


def test_a_fork_bomb_makes_no_more_processes_than_allowed(server: Server):
    if server.tier == "monty":
        pytest.skip("Monty has no processes")
    code = """
import os, time
made = 0
try:
    while os.fork():
        made += 1
    time.sleep(60)
except OSError:
    print("made", made)
"""
    content = server.run(code)["content"]
    assert content == f"made {PythonSettings().processes - 1}"


def test_a_hundred_thousand_lines(server: Server):
    result = server.run("for i in range(100_000):\n    print(i)\n'done'")
    lines = result["content"].splitlines()
    assert (lines[:2], lines[-2:]) == (["0", "1"], ["99999", "'done'"])
    assert len(lines) <= PythonSettings().shown_lines
    assert len(json.dumps(result)) < 4 * PythonSettings().shown_chars
