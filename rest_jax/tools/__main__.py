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
from pathlib import Path

from rest_jax.core.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM. Prints {"url", "pid"} as one JSON line once it listens; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m rest_jax.tools")
    add_serve_command(parser)
    try:
        serve_until_stopped(parser.parse_args(arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def add_serve_command(parser: argparse.ArgumentParser) -> None:
    """The command `serve` and its options; also those of `rest-jax tools serve`."""
    serve = parser.add_subparsers(required=True).add_parser(
        "serve", help="answer tool calls over HTTP", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    serve.add_argument("--corpus", type=Path, required=True, help="JSONL file of {title, text} passages")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on; other than loopback needs a token")
    serve.add_argument("--port", type=int, default=8765, help="port to listen on; 0 takes a free one")
    serve.add_argument("--k1", type=float, default=1.5, help="BM25 term saturation")
    serve.add_argument("--b", type=float, default=0.75, help="BM25 length normalisation")
    serve.add_argument("--title-weight", type=int, default=2, help="how many times a title counts beside its text")
    serve.add_argument(
        "--exact-title-first", choices=("yes", "no"), default="yes", help="a passage whose title is the query leads"
    )
    serve.add_argument("--results", type=int, default=1, help="passages that a search shows unless it says how many")
    serve.add_argument("--timeout-s", type=float, default=20.0, help="the most seconds that one call may take")
    serve.add_argument("--lifeline", action="store_true", help="end when standard input closes")


def serve_until_stopped(options: argparse.Namespace) -> None:
    """Announce the address on stdout as one JSON line, then answer until SIGTERM. Raises UserError."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    if options.lifeline:
        threading.Thread(target=_end_with_stdin, name="lifeline", daemon=True).start()
    # Imported here: by now the lifeline is watched, and --help or a wrong option has been answered at once.
    from rest_jax.tools.search.corpus import read_corpus
    from rest_jax.tools.search.index import IndexSettings
    from rest_jax.tools.search.search import Searcher, search_tools
    from rest_jax.tools.server import create_app, serve
    from rest_jax.tools.transport import TOKEN_VARIABLE

    token = os.environ.get(TOKEN_VARIABLE) or None
    if token is None and not _is_loopback(options.host):
        raise UserError(f"--host {options.host} is open to others; set {TOKEN_VARIABLE} or listen on 127.0.0.1")
    settings = IndexSettings(options.k1, options.b, options.title_weight, options.exact_title_first == "yes")
    corpus = read_corpus(options.corpus)
    searcher = Searcher(corpus, settings)
    app = create_app(
        search_tools(searcher, options.results),
        timeout_s=options.timeout_s,
        about={
            "corpus": {"digest": corpus.digest, "passages": len(corpus.passages)},
            "index": {"digest": searcher.index.digest, "results": options.results, **settings.described()},
        },
        token=token,
    )

    def announce(url: str) -> None:
        print(json.dumps({"url": url, "pid": os.getpid()}), flush=True)

    asyncio.run(serve(app, options.host, options.port, announce))


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
