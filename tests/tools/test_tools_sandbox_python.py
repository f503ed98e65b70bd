"""What the tool `python` answers, in every tier that runs here, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sandbox_here import BWRAP, needs_bwrap

from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.tools.adapter import Adapter
from rest_jax.tools.protocol import Call
from rest_jax.tools.registry import Tool, ToolFailure
from rest_jax.tools.sandbox.monty import showing_last
from rest_jax.tools.sandbox.python import open_python
from rest_jax.tools.sandbox.ran import Ran, cut, ended, reply_of
from rest_jax.tools.sandbox.settings import PythonSettings
from tests.waiting import wait_until

TIERS = ["monty", BWRAP, "unsafe"]


def with_python(settings: PythonSettings, use: Callable[[Tool], Coroutine[Any, Any, Any]]) -> Any:
    async def main() -> Any:
        async with open_python(settings) as (tool,):
            return await use(tool)

    return asyncio.run(main())


def replies(settings: PythonSettings, *codes: str) -> list[ToolReply]:
    async def use(tool: Tool) -> list[ToolReply]:
        return [await tool.run({"code": code}, "e") for code in codes]

    return with_python(settings, use)


def in_turn(tool: Tool) -> Callable[[str], Awaitable[ToolReply]]:
    """Runs programs as an adapter does: as many at once as the settings say."""
    adapter = Adapter([tool], timeout_s=600.0)

    async def run(code: str) -> ToolReply:
        return (await adapter.answer(Call(0, tool.name, {"code": code}), 600.0)).reply

    return run


def children() -> set[int]:
    """Processes below this one, zombies included."""
    below = {os.getpid()}
    parents = {}
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdecimal():
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    while more := {id for id, parent in parents.items() if parent in below} - below:
        below |= more
    return below - {os.getpid()}


CONTENTS = {
    "6 * 7": "42",
    "import math; math.sqrt(16)": "4.0",
    "print('a')\n[1, 'b']": "a\n[1, 'b']",
    "x = 3": "(no output)",
    "None": "(no output)",
    "print('hello')": "hello",
    "def f(x):\n    return x + 1\n\nf(1)": "2",
    "f = lambda x: x\nf(\n    5,\n)  # five": "5",
    "'''a\nb'''": "'a\\nb'",
    "1;": "1",
    "if True:\n    5": "(no output)",
    "x = 1\nx, {'b': 1, 'a': 2}": "(1, {'b': 1, 'a': 2})",
    "print('🦊 ü')": "🦊 ü",
    "": "(no output)",
    "# nothing": "(no output)",
}


@pytest.mark.parametrize("tier", TIERS)
def test_what_is_printed_and_the_value_of_the_last_expression(tier: str):
    found = replies(PythonSettings(tier=tier), *CONTENTS)
    assert {code: reply.content for code, reply in zip(CONTENTS, found, strict=True)} == CONTENTS
    assert all(reply.ok and reply.data["status"] == "ok" and reply.data["tier"] == tier for reply in found)


@pytest.mark.parametrize("tier", TIERS)
def test_errors_name_the_programs_own_lines(tier: str):
    in_function, in_last, syntax, nothing_kept = replies(
        PythonSettings(tier=tier),
        "def f(x):\n    return 1 / x\nprint('before')\nf(0)",
        "\n\nint('a')",
        "x = 1\ny = = 2",
        "x",
    )
    assert in_function.content.startswith("before\nTraceback (most recent call last):\n")
    assert in_function.content.endswith("ZeroDivisionError: division by zero")
    assert 'File "<code>", line 4' in in_function.content
    assert 'File "<code>", line 2, in f\n    return 1 / x\n' in in_function.content
    assert 'File "<code>", line 3' in in_last.content
    assert in_last.content.endswith("ValueError: invalid literal for int() with base 10: 'a'")
    assert 'File "<code>", line 2\n    y = = 2\n' in syntax.content
    assert "SyntaxError" in syntax.content
    assert "Traceback" not in syntax.content
    assert nothing_kept.content.endswith("NameError: name 'x' is not defined")
    for reply in (in_function, in_last, syntax, nothing_kept):
        assert reply.data["status"] == "error"
        assert "sandbox" not in reply.content + reply.data["stderr"]
        assert "__show" not in reply.content


@pytest.mark.parametrize("tier", ["unsafe", BWRAP])
def test_cpython_runs_what_monty_lacks(tier: str):
    code = """
import fractions, heapq, string
from dataclasses import dataclass

class Base:
    name = "base"

@dataclass
class Point(Base):
    x: "int"

def numbers():
    yield from range(3)

x = 1
del x
open("file", "w").write("kept while the program runs")
print(open("file").read(), fractions.Fraction(1, 3), Point(1), Point.name, list(numbers()))
{"b", "a", "c"} == set("abc")
"""
    first, second = replies(PythonSettings(tier=tier), code, "import os; os.listdir('.')")
    assert first.content == "kept while the program runs 1/3 Point(x=1) base [0, 1, 2]\nTrue"
    assert second.content == "[]"


def test_monty_says_what_it_lacks():
    async def use(tool: Tool) -> str:
        return tool.description

    description = with_python(PythonSettings(tier="monty"), use)
    for missing in ("yield", "inheritance", "files"):
        assert missing in description


@pytest.mark.parametrize(
    ("tier", "version"), [("monty", "1+monty-1."), pytest.param("bwrap", "1+bwrap-0.", marks=needs_bwrap)]
)
def test_the_version_names_tier_and_limits(tier: str, version: str):
    async def use(tool: Tool) -> str:
        return tool.version

    versions = [
        with_python(settings, use)
        for settings in (
            PythonSettings(tier=tier),
            PythonSettings(tier=tier, concurrent=1),
            PythonSettings(tier=tier, timeout_s=4.0),
        )
    ]
    assert all(found.startswith(version) for found in versions)
    assert versions[0] == versions[1] != versions[2]


def test_a_call_may_ask_for_less_time_and_not_for_more():
    async def use(tool: Tool) -> ToolReply:
        with pytest.raises(ToolFailure, match="timeout_s") as error:
            tool.check({"code": "", "timeout_s": 60})
        assert error.value.kind is ToolErrorKind.BAD_ARGUMENTS
        return await tool.run({"code": "print(1)\nwhile True: pass", "timeout_s": 0.1}, "e")

    reply = with_python(PythonSettings(tier="monty", timeout_s=30.0), use)
    assert reply.data["status"] == "timeout"
    assert reply.data["seconds"] < 20
    assert reply.content.startswith("1\n")
    assert reply.content.endswith("(stopped: out of time)")


@needs_bwrap
def test_what_was_printed_before_the_end_of_time_is_shown():
    (reply,) = replies(PythonSettings(tier="bwrap", timeout_s=1.0), "print('so far')\nwhile True: pass")
    assert reply.content == "so far\n(stopped: out of time)"


@pytest.mark.parametrize("tier", ["unsafe", BWRAP])
def test_not_more_than_so_many_run_at_once_and_the_loop_goes_on(tier: str):
    async def use(tool: Tool) -> tuple[int, list[str]]:
        done = asyncio.Event()
        most = 0

        async def watch() -> None:
            nonlocal most
            while not done.is_set():
                most = max(most, len({pid for pid in children() if _is_program(pid)}))
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        run = in_turn(tool)
        found = await asyncio.gather(*(run("import time; time.sleep(0.1)") for _ in range(8)))
        done.set()
        await watching
        return most, [reply.data["status"] for reply in found]

    most, statuses = with_python(PythonSettings(tier=tier, concurrent=2, timeout_s=30.0), use)
    assert most == 2
    assert statuses == ["ok"] * 8


def _is_program(pid: int) -> bool:
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"python" in arguments[0] and b"-S" in arguments[:2]


@pytest.mark.parametrize(
    ("tier", "calls"), [("monty", 400), pytest.param("bwrap", 100, marks=needs_bwrap), ("unsafe", 20)]
)
def test_many_calls_leave_nothing(tier: str, calls: int):
    codes = ["6 * 7", "1 / 0", "x = [0] * 10**12", "import subprocess\nsubprocess.Popen(['/bin/sleep', '0'])"]
    before = children(), _open_files(), set(os.listdir(tempfile.gettempdir()))

    async def use(tool: Tool) -> Counter[str]:
        run = in_turn(tool)
        found = await asyncio.gather(*(run(codes[i % len(codes)]) for i in range(calls)))
        return Counter(reply.data["status"] for reply in found)

    # Without a sandbox all of the user's processes count.
    processes = 10**6 if tier == "unsafe" else PythonSettings().processes
    statuses = with_python(PythonSettings(tier=tier, timeout_s=30.0, processes=processes), use)
    ok = (1 if tier == "monty" else 2) * calls // 4
    assert statuses == {"ok": ok, "error": 3 * calls // 4 - ok, "memory": calls // 4}
    after = children(), _open_files(), set(os.listdir(tempfile.gettempdir()))
    assert after[0] <= before[0]
    assert after[1] <= before[1]
    assert {name for name in after[2] - before[2] if name.startswith("python-")} == set()


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@needs_bwrap
def test_calls_given_up_at_any_moment_leave_nothing():
    before = children(), _open_files()

    async def use(tool: Tool) -> None:
        run = in_turn(tool)

        async def given_up_after(seconds: float) -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(seconds):
                    await run("import time; time.sleep(100)")

        await asyncio.gather(*(given_up_after(0.004 * i) for i in range(40)))

    with_python(PythonSettings(tier="bwrap", timeout_s=60.0, concurrent=8), use)
    assert children() <= before[0]
    assert _open_files() <= before[1]
    assert _sandboxes() == set()


def _sandboxes() -> set[int]:
    """Programs of this module that run in sandboxes anywhere on this machine: their time is a number of its own."""
    found = set()
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdecimal() and MARK.encode() in (folder / "cmdline").read_bytes():
                found.add(int(folder.name))
        except OSError:
            continue
    return found


MARK = "RLIMIT_CPU=488"

ADAPTER = """
import asyncio
from rest_jax.tools.sandbox.python import open_python
from rest_jax.tools.sandbox.settings import PythonSettings

async def main():
    async with open_python(PythonSettings(tier="bwrap", timeout_s=60.0)) as (tool,):
        calls = [asyncio.create_task(tool.run({"code": "import time; time.sleep(50)"}, "e")) for _ in range(3)]
        await asyncio.sleep(0)
        print("called", flush=True)
        await asyncio.gather(*calls)

asyncio.run(main())
"""


@needs_bwrap
def test_an_adapter_that_is_killed_takes_its_sandboxes_along():
    with subprocess.Popen([sys.executable, "-c", ADAPTER], stdout=subprocess.PIPE) as adapter:
        assert adapter.stdout is not None
        assert adapter.stdout.readline() == b"called\n"
        wait_until(lambda: len(_sandboxes()) >= 3, "three sandboxes")
        adapter.kill()
    wait_until(lambda: not _sandboxes(), "no sandbox is left")


@pytest.mark.parametrize("tier", TIERS)
def test_a_program_that_something_outside_kills_is_no_fault_of_its_own(tier: str):
    others = children()

    async def use(tool: Tool) -> ToolReply:
        call = asyncio.create_task(tool.run({"code": "while True: pass"}, "e"))
        while not call.done():
            for pid in children() - others:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.wait([call], timeout=0.01)
        with pytest.raises(ToolFailure) as error:
            call.result()
        assert error.value.kind is ToolErrorKind.INFRA
        return await tool.run({"code": "6 * 7"}, "e")

    assert with_python(PythonSettings(tier=tier, timeout_s=30.0), use).content == "42"


def test_the_end_of_a_program():
    assert ended(0, "a", "MemoryError", 1).status == "ok"
    assert ended(1, "", "Traceback …\nMemoryError\n", 1).status == "memory"
    assert ended(1, "", "MemoryError\nValueError\n", 1).status == "error"
    assert ended(-9, "", "", 1).status == "killed"
    assert ended(128 + 11, "", "", 1).status == "killed"
    assert ended(3, "", "", 1).status == "error"


def test_long_texts_are_cut_in_the_middle_and_errors_at_the_front():
    assert cut("short\n", 100, 3) == "short\n"
    lines = "".join(f"{i}\n" for i in range(1000))
    assert cut(lines, 10_000, 5) == "0\n1\n[… 3878 characters left out …]\n998\n999\n"
    assert cut(lines, 10_000, 3, ahead=0.0) == "[… 3882 characters left out …]\n998\n999\n"
    for chars in (100, 101, 500):
        shown = cut("x" * 1000, chars, 5)
        assert len(shown) <= chars
        assert shown.startswith("x" * 30)
        assert shown.endswith("x" * 30)
    reply = reply_of(Ran("error", "\ud800", "first\nlast\n", 0.5), "monty", 100, 10)
    assert reply.content == "\ufffd\nfirst\nlast"
    json.dumps(reply.data).encode()


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("x", "__show((\nx\n))"),
        ("a = 1; a + 1 ;", "a = 1; __show((\na + 1\n))"),
        ("if a:\n    b; c", "__show((\nif a:\n    b; c\n))"),
        ("f(1,\n  2)", "__show((\nf(1,\n  2)\n))"),
        ("x = 1\n'a;b'", "x = 1\n__show((\n'a;b'\n))"),
        ("(", "(\nNone"),
        ("", "\nNone"),
    ],
)
def test_the_last_statement_is_found(code: str, shown: str):
    assert showing_last(code)[0] == shown


def test_a_string_that_does_not_end_is_read_once():
    """Read again after each of its quotes it takes minutes."""
    script = """if True:
        import sys
        sys.path[:0] = sys.argv[1:]
        from rest_jax.tools.sandbox.monty import showing_last
        code = "x = 1\\n'" + "\\\\'" * 24_000
        assert showing_last(code) == (f"{code}\\nNone", 0)
    """
    ran = subprocess.run([sys.executable, "-c", script, *sys.path], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
