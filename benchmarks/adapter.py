"""The real tool adapter over a corpus, its tools wrapped as a benchmark wants them, in a process of its own.

`adapter` starts a module that calls `serve_wrapped`. Each line on the process's standard input is heard and answered;
it ends when its input closes.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiohttp import web

from rest_jax.config.settings import ToolsSettings
from rest_jax.tools.registry import Run, Tool

Tell = Callable[[str], None]
"""Says a line to an adapter, and returns once it was heard."""


@contextmanager
def adapter(module: str, *arguments: str) -> Iterator[tuple[str, Tell]]:
    """The adapter that a module serves: its URL, and what speaks to it."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
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

    def tell(line: str) -> None:
        writer.write(f"{line}\n")
        writer.flush()
        heard()

    with process:
        yield heard()["url"], tell


def serve_wrapped(
    corpus: Path,
    settings: ToolsSettings,
    wrap: Callable[[Run], Run],
    hear: Callable[[str], None] = lambda line: None,
    change: Callable[[web.Application], None] = lambda app: None,
) -> None:
    """Serve the search tools, each `wrap`ped, until standard input closes; `hear` gets its lines, and `change` may add
    to the application."""
    from rest_jax.tools.search.corpus import read_corpus
    from rest_jax.tools.search.index import IndexSettings
    from rest_jax.tools.search.search import Searcher, search_tools

    index = IndexSettings(settings.k1, settings.b, settings.title_weight, settings.exact_title_first)
    searcher = Searcher(read_corpus(corpus), index)
    tools = [replace(tool, run=wrap(tool.run)) for tool in search_tools(searcher, settings.results)]
    serve_tools(tools, settings.timeout_s, hear, change)


def serve_tools(
    tools: Sequence[Tool],
    timeout_s: float,
    hear: Callable[[str], None] = lambda line: None,
    change: Callable[[web.Application], None] = lambda app: None,
) -> None:
    """Serve any tools, in the same way."""
    from rest_jax.tools.server import create_app, serve

    def listen() -> None:
        for line in sys.stdin:
            hear(line)
            print(json.dumps({"heard": line}), flush=True)
        os.kill(os.getpid(), signal.SIGTERM)

    def announce(url: str) -> None:
        print(json.dumps({"url": url}), flush=True)
        threading.Thread(target=listen, daemon=True).start()

    app = create_app(tools, timeout_s=timeout_s)
    change(app)
    asyncio.run(serve(app, "127.0.0.1", 0, announce))
