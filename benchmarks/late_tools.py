"""The real tool adapter, as late as one likes: it waits (in asyncio) before each answer, as a remote tool would.

`late_adapter` starts it as a process of its own. A line of seconds on its standard input sets the wait; it says when
that is done, and ends when its input closes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rest_jax.config.settings import ToolsSettings
from rest_jax.core.effects import ToolReply

SETTINGS = ToolsSettings(timeout_s=600)
"""Of adapter and client: no call of a benchmark is given up."""

SetLatency = Callable[[float], None]


@contextmanager
def late_adapter(corpus: Path) -> Iterator[tuple[str, SetLatency]]:
    """An adapter over a corpus: its URL, and what sets the seconds that a call waits."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.late_tools", "--corpus", str(corpus)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        text=True,
    )
    reader, writer = process.stdout, process.stdin
    assert reader is not None
    assert writer is not None

    def heard() -> dict[str, Any]:
        line = reader.readline()
        if not line:
            raise RuntimeError("the benchmark's tool adapter ended; its reason stands above")
        return json.loads(line)

    def set_latency(seconds: float) -> None:
        writer.write(f"{seconds}\n")
        writer.flush()
        heard()

    with process:
        yield heard()["url"], set_latency


def main() -> None:
    from rest_jax.tools.corpus import read_corpus
    from rest_jax.tools.index import IndexSettings
    from rest_jax.tools.search import Searcher, search_tools
    from rest_jax.tools.server import create_app, serve

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    index = IndexSettings(SETTINGS.k1, SETTINGS.b, SETTINGS.title_weight, SETTINGS.exact_title_first)
    searcher = Searcher(read_corpus(parser.parse_args().corpus), index)
    latency_s = 0.0

    def late(run: Callable[[Mapping[str, Any]], Any]) -> Callable[[Mapping[str, Any]], Any]:
        async def wait_and_run(arguments: Mapping[str, Any]) -> ToolReply:
            await asyncio.sleep(latency_s)
            return await run(arguments)

        return wait_and_run

    def listen() -> None:
        nonlocal latency_s
        for line in sys.stdin:
            latency_s = float(line)
            print(json.dumps({"latency_s": latency_s}), flush=True)
        os.kill(os.getpid(), signal.SIGTERM)

    def announce(url: str) -> None:
        print(json.dumps({"url": url}), flush=True)
        threading.Thread(target=listen, daemon=True).start()

    tools = [replace(tool, run=late(tool.run)) for tool in search_tools(searcher, SETTINGS.results)]
    app = create_app(tools, timeout_s=SETTINGS.timeout_s, about={})
    asyncio.run(serve(app, "127.0.0.1", 0, announce))


if __name__ == "__main__":
    main()
