"""The real tool adapter, as late as one likes: it waits (in asyncio) before each answer, as a remote tool would.

A line of seconds on its standard input sets the wait.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.adapter import adapter, serve_wrapped
from rest_jax.config.settings import ToolsSettings
from rest_jax.core.effects import ToolReply
from rest_jax.tools.registry import Run

SETTINGS = ToolsSettings(timeout_s=600)
"""Of adapter and client: no call of a benchmark is given up."""

SetLatency = Callable[[float], None]


@contextmanager
def late_adapter(corpus: Path) -> Iterator[tuple[str, SetLatency]]:
    """An adapter over a corpus: its URL, and what sets the seconds that a call waits."""
    with adapter("benchmarks.late_tools", f"--corpus={corpus}") as (url, tell):
        yield url, lambda seconds: tell(str(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    latency_s = 0.0

    def late(run: Run) -> Run:
        async def wait_and_run(arguments: Mapping[str, Any], episode: str) -> ToolReply:
            await asyncio.sleep(latency_s)
            return await run(arguments, episode)

        return wait_and_run

    def hear(line: str) -> None:
        nonlocal latency_s
        latency_s = float(line)

    serve_wrapped(parser.parse_args().corpus, SETTINGS, late, hear)


if __name__ == "__main__":
    main()
