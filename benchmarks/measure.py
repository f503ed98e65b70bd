"""What the benchmarks share: contenders that take turns, medians with their spread, and what a reader must know."""

from __future__ import annotations

import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import jax
from rich.console import Console
from rich.table import Table

from rest_jax.core.files import write_json
from rest_jax.recipes.environment import environment

Name = TypeVar("Name", bound=Hashable)
T = TypeVar("T")

Columns = Mapping[str, str]
"""The headings of a printed table, each with the key of the rows that stands under it."""


@dataclass(frozen=True)
class Spread:
    """The median of repeated measurements, and their least and greatest."""

    median: float
    least: float
    most: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        return Spread(statistics.median(values), min(values), max(values))


def named(key: str, values: Spread | None) -> dict[str, float | None]:
    """A spread as entries of a row: `key`, `key_least`, `key_most`; None where nothing was measured."""
    least, median, most = (values.least, values.median, values.most) if values else (None, None, None)
    return {key: median, f"{key}_least": least, f"{key}_most": most}


def interleaved(contenders: Mapping[Name, Callable[[int], T]], repeats: int, what: str) -> dict[Name, list[T]]:
    """Run every contender once per repeat (it is given the repeat's number) and collect what it returns.

    They take turns, because a machine's speed changes from minute to minute; who begins moves on with each repeat.
    Says on stderr how far it is, and with `what`.
    """
    names = tuple(contenders)
    results: dict[Name, list[T]] = {name: [] for name in names}
    for repeat in range(repeats):
        print(f"{what}: repeat {repeat + 1} of {repeats}", file=sys.stderr)
        for place in range(len(names)):
            name = names[(repeat + place) % len(names)]
            results[name].append(contenders[name](repeat))
    return results


def chained(step: Callable[[T], T], x: T, *, calls: int, repeats: int) -> Spread:
    """Seconds of one step on the device, each fed with what the one before made; without the first, which compiles.

    `calls` of them are dispatched before the last is waited for, so that the host's part hides behind the device's.
    """
    x = jax.block_until_ready(step(x))
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in range(calls):
            x = step(x)
        jax.block_until_ready(x)
        taken.append((time.perf_counter() - began) / calls)
    return Spread.of(taken)


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def circumstances(module: str, dtype: str) -> dict[str, Any]:
    """Hardware, versions, commit, date and command: what a figure means nothing without."""
    return {
        **environment(dtype),
        "cpu": _cpu(),
        "cores": cores(),
        "load_before": round(os.getloadavg()[0], 2),
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command(module),
    }


def command(module: str) -> str:
    """What was typed to measure this."""
    return shlex.join(["python", "-m", module, *sys.argv[1:]])


def publish(path: Path, about: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> None:
    """Write a benchmark's JSON: {"about", "notes", "rows"}."""
    write_json(path, {"about": dict(about), "notes": list(notes), "rows": [dict(row) for row in rows]})


def show(title: str, columns: Columns, rows: Iterable[Mapping[str, Any]], notes: Sequence[str]) -> None:
    """Print rows as a table, and the notes below it."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in columns:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*(cell(row[key]) for key in columns.values()))
    console = Console()
    console.print(table)
    for note in notes:
        console.print(note, markup=False, highlight=False)


def cell(value: Any) -> str:
    """One cell: floats with three significant digits, an en dash where nothing was measured."""
    if value is None:
        return "–"
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _cpu() -> str:
    """The processor's name, as Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")


def _commit() -> str:
    """The commit of this checkout, marked when files differ from it."""
    describe = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        told = subprocess.run(describe, cwd=Path(__file__).parent, capture_output=True, text=True)
    except OSError:  # no git here
        return "unknown"
    return told.stdout.strip() if told.returncode == 0 else "unknown"
