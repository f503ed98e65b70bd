"""What a call of the tool `python` costs, in every tier that works here.

    python -m benchmarks.python_tool --json OUT [--calls 60] [--quick]

Tiers take turns: in each repeat a tier answers one program (`sum(range(100))`), and all of them at once as many as
run at once (`concurrent`). `floor` is the same interpreter without any sandbox or package: `python -S -B -c pass`.
Before the last row all 24 calls are hostile (endless output); the worst wait of the event loop while they run is
`loop_ms`.

    ms           of one call, alone: median, and least and greatest
    per_second   calls, as many at once as the setting allows
    loop_ms      the longest time for which the adapter's event loop did not come round
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from benchmarks.measure import Spread, circumstances, publish, show
from rest_jax.tools.adapter import Adapter
from rest_jax.tools.protocol import Call
from rest_jax.tools.registry import Tool
from rest_jax.tools.sandbox.python import open_python
from rest_jax.tools.sandbox.ran import Unavailable
from rest_jax.tools.sandbox.settings import PythonSettings
from rest_jax.tools.sandbox.tiers import open_tried

TIERS = ("monty", "bwrap", "unsafe")
WAIT_S = 600.0
"""No call waits so long for its turn."""
PROGRAM = "sum(range(100))"
ENDLESS = "while True:\n    print('x' * 1000)"
COLUMNS = {
    "tier": "tier",
    "calls": "calls",
    "ms": "ms",
    "least": "ms_least",
    "most": "ms_most",
    "calls/s": "per_second",
    "loop ms": "loop_ms",
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.python_tool")
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    parser.add_argument("--calls", type=int, default=60, help="calls of each tier, one at a time")
    parser.add_argument("--quick", action="store_true", help="10 calls")
    options = parser.parse_args(arguments)
    about = circumstances("benchmarks.python_tool", "float32")
    rows = asyncio.run(_measure(10 if options.quick else options.calls))
    notes = [f"one at a time: {PROGRAM}; loop ms: during 24 calls of endless output at once"]
    publish(options.json, about, rows, notes)
    show("Python tool", COLUMNS, rows, notes)
    return 0


async def _measure(calls: int) -> list[dict[str, Any]]:
    async with AsyncExitStack() as stack:
        tools: dict[str, Tool] = {}
        for tier in TIERS:
            settings = PythonSettings(tier=tier, timeout_s=30.0)
            try:
                async with open_tried(tier, settings):
                    pass
            except Unavailable as error:
                print(f"no row for {tier}: {error.why}", file=sys.stderr)
                continue
            (tools[tier],) = await stack.enter_async_context(open_python(settings))
        contenders = {tier: _answers(tool, PROGRAM) for tier, tool in tools.items()} | {"floor": _floor}
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for repeat in range(calls):
            names = list(contenders)
            for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
                began = time.perf_counter()
                await contenders[name]()
                seconds[name].append(time.perf_counter() - began)
        rows = []
        for name, taken in seconds.items():
            spread = Spread.of([1000 * value for value in taken])
            row = {"tier": name, "calls": calls, "ms": spread.median, "ms_least": spread.least, "ms_most": spread.most}
            row |= {"per_second": None, "loop_ms": None, "version": None}
            if name in tools:
                began = time.perf_counter()
                await asyncio.gather(*(contenders[name]() for _ in range(calls)))
                row |= {"per_second": calls / (time.perf_counter() - began), "version": tools[name].version}
                row["loop_ms"] = 1000 * await _longest_wait(_answers(tools[name], ENDLESS))
            rows.append(row)
        return rows


def _answers(tool: Tool, code: str) -> Callable[[], Awaitable[None]]:
    adapter = Adapter([tool], WAIT_S)

    async def call() -> None:
        reply = (await adapter.answer(Call(0, tool.name, {"code": code}), WAIT_S)).reply
        assert reply.data["status"] == ("ok" if code == PROGRAM else "output"), reply

    return call


async def _floor() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-S", "-B", "-c", "pass", stdin=subprocess.DEVNULL)
    await process.wait()


async def _longest_wait(call: Callable[[], Awaitable[None]]) -> float:
    """Seconds for which the event loop did not come round while 24 calls ran."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - began)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(call() for _ in range(24)))
    watching.cancel()
    return longest


if __name__ == "__main__":
    sys.exit(main())
