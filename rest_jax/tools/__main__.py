"""`python -m rest_jax.tools serve`: the adapter process."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rest_jax.core.errors import UserError
from rest_jax.tools.options import add_source_options, settings_of

if TYPE_CHECKING:
    from rest_jax.tools.settings import AdapterSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM. Prints {"url", "pid"} as one JSON line once it listens; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m rest_jax.tools")
    add_serve_command(parser.add_subparsers(required=True))
    try:
        serve_until_stopped(parser.parse_args(arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def add_serve_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command `serve` and its options; also those of `rest-jax tools serve`."""
    serve = commands.add_parser("serve", help="answer tool calls over HTTP")
    add_source_options(serve)
    serve.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; other than loopback needs a token (127.0.0.1)"
    )
    serve.add_argument("--port", type=int, default=8765, help="port to listen on; 0 takes a free one (8765)")
    serve.add_argument("--timeout-s", type=float, default=20.0, help="the most seconds that one call may take (20)")
    serve.add_argument("--lifeline", action="store_true", help="end when standard input closes")


def serve_until_stopped(options: argparse.Namespace) -> None:
    """Announce the address on stdout as one JSON line, then answer until SIGTERM. Raises UserError."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    if options.lifeline:
        threading.Thread(target=_end_with_stdin, name="lifeline", daemon=True).start()
    # Imported here: by now the lifeline is watched, and --help or a wrong option has been answered at once.
    from rest_jax.tools.transport import TOKEN_VARIABLE

    token = os.environ.get(TOKEN_VARIABLE) or None
    if token is None and not _is_loopback(options.host):
        raise UserError(f"--host {options.host} is open to others; set {TOKEN_VARIABLE} or listen on 127.0.0.1")
    asyncio.run(_serve(settings_of(options), options, token))


async def _serve(settings: AdapterSettings, options: argparse.Namespace, token: str | None) -> None:
    from rest_jax.tools.server import create_app, serve
    from rest_jax.tools.settings import open_tools

    def announce(url: str) -> None:
        print(json.dumps({"url": url, "pid": os.getpid()}), flush=True)

    async with open_tools(settings) as tools:
        app = create_app(tools, timeout_s=options.timeout_s, token=token)
        await serve(app, options.host, options.port, announce)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _end_with_stdin() -> None:
    """The parent holds the other end of standard input and never writes: it ends when the parent does."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
