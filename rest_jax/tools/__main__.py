"""`python -m rest_jax.tools serve|record|replay`: the adapter process."""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rest_jax.core.errors import UserError
from rest_jax.tools.options import add_source_options, settings_of

if TYPE_CHECKING:
    from rest_jax.tools.serving import Served

PR_SET_PDEATHSIG = 1
"""Of linux/prctl.h."""

ORPHAN_S = 4.0
"""How long an adapter may take to end when the process that started it is gone."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM. Prints {"url", "pid"} as one JSON line once it listens; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m rest_jax.tools")
    add_serve_commands(parser.add_subparsers(required=True))
    try:
        serve_until_stopped(parser.parse_args(arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def add_serve_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The commands `serve`, `record` and `replay` with their options; also those of `rest-jax tools`."""
    serve = commands.add_parser("serve", help="answer tool calls over HTTP")
    record = commands.add_parser("record", help="serve, and keep every answer in a cassette")
    replay = commands.add_parser("replay", help="serve what a cassette holds, without its tools")
    for command in (record, replay):
        command.add_argument("cassette", metavar="CASSETTE", type=Path, help="folder of the recording")
    for command in (serve, record):
        add_source_options(command)
        command.add_argument("--spent", metavar="FILE", type=Path, help="where what service.dollars paid for is noted")
    for command in (serve, record, replay):
        _add_address_options(command)
    serve.set_defaults(mode="live")
    record.set_defaults(mode="record")
    replay.set_defaults(mode="replay")


def _add_address_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; other than loopback needs a token (127.0.0.1)"
    )
    command.add_argument("--port", type=int, default=8765, help="port to listen on; 0 takes a free one (8765)")
    command.add_argument("--timeout-s", type=float, default=20.0, help="the most seconds that one call may take (20)")
    command.add_argument("--lifeline", action="store_true", help="end when standard input closes")


def serve_until_stopped(options: argparse.Namespace) -> None:
    """Announce the address on stdout as one JSON line, then answer until SIGTERM. Raises UserError."""
    os.environ["JAX_PLATFORMS"] = "cpu"  # bm25s imports jax where it is installed; the accelerator is the run's
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    if options.lifeline:
        _die_with_parent()
        threading.Thread(target=_end_with_stdin, args=[os.getppid()], name="lifeline", daemon=True).start()
    # Imported here: by now the lifeline is watched, and --help or a wrong option has been answered at once.
    from rest_jax.tools.guards import is_loopback
    from rest_jax.tools.redact import TOKEN_VARIABLE, own_token

    token, local = own_token(), is_loopback(options.host)
    if token is None and not local:
        raise UserError(f"--host {options.host} is open to others; set {TOKEN_VARIABLE} or listen on 127.0.0.1")
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as announcements:
        os.dup2(2, 1)  # what a tool prints is no announcement, and whoever started us reads but that
        try:
            asyncio.run(_serve(options, token, local, announcements))
        finally:
            os.dup2(announcements.fileno(), 1)


async def _serve(options: argparse.Namespace, token: str | None, local: bool, announcements: TextIO) -> None:
    from rest_jax.tools.server import create_app, serve

    def announce(url: str) -> None:
        print(json.dumps({"url": url, "pid": os.getpid()}), file=announcements, flush=True)

    async with _served(options) as served:
        app = create_app(served.tools, timeout_s=options.timeout_s, service=served.service, token=token, local=local)
        await serve(app, options.host, options.port, announce)


@asynccontextmanager
async def _served(options: argparse.Namespace) -> AsyncIterator[Served]:
    from rest_jax.tools.serving import open_live, replayed

    if options.mode == "replay":
        yield replayed(options.cassette)
        return
    record = options.cassette if options.mode == "record" else None
    async with open_live(settings_of(options), record=record, spent=options.spent) as served:
        yield served


def _die_with_parent() -> None:
    """Have Linux kill this process when the thread that started it ends: one that is stopped, or stuck in C, cannot
    watch its standard input."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_with_stdin(parent: int) -> None:
    """The parent holds the other end of standard input and never writes: it ends when the parent does."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_S)
    if os.getppid() != parent:  # nobody waits for what a tool's thread still does, and nobody else would end it
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
