"""`rest-jax tools`: the tool adapter for other machines or programs, live, recorded or replayed; its tools by hand."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rest_jax.core.effects import ToolReply
from rest_jax.core.errors import UserError
from rest_jax.tools.__main__ import add_serve_commands, serve_until_stopped
from rest_jax.tools.options import add_corpus_options, add_source_options, corpus_settings_of, settings_of

if TYPE_CHECKING:
    from rest_jax.tools.settings import AdapterSettings

EPISODE = "rest-jax tools call"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add_serve_commands(actions)
    call = actions.add_parser("call", help="call one tool and print what a model would see; exit code 1 if it fails")
    call.add_argument("tool", metavar="TOOL", help="its name, such as search")
    call.add_argument(
        "arguments", metavar="ARGUMENTS", nargs="?", default="{}", help='a JSON object, such as {"query": "…"}'
    )
    call.add_argument("--url", metavar="URL", help="the adapter that is asked; without one the tools are opened here")
    call.add_argument("--timeout-s", type=float, default=20.0, help="the most seconds that it may take (20)")
    call.add_argument("--json", action="store_true", help="print the whole reply: content, data, fault, tool_version")
    add_source_options(call)
    index = actions.add_parser("index", help="build a corpus's index, and print all that decides its ranks")
    add_corpus_options(index, required=True)


def execute(options: argparse.Namespace) -> int:
    match options.action:
        case "serve" | "record" | "replay":
            serve_until_stopped(options)
        case "call":
            return _call(options)
        case "index":
            _index(options)
    return 0


def _call(options: argparse.Namespace) -> int:
    arguments = _object(options.arguments)
    if options.url is not None:
        reply = _called_there(options.url, options.tool, arguments, options.timeout_s)
    else:
        reply = asyncio.run(_called_here(settings_of(options), options.tool, arguments, options.timeout_s))
    if options.json:
        print(json.dumps(asdict(reply), indent=1, ensure_ascii=False))
    elif reply.ok:
        print(reply.content)
    if reply.fault is not None and not options.json:
        print(f"rest-jax: {options.tool}: {reply.fault.kind}: {reply.fault.message}", file=sys.stderr)
    return 0 if reply.ok else 1


async def _called_here(settings: AdapterSettings, tool: str, arguments: dict[str, Any], timeout_s: float) -> ToolReply:
    from rest_jax.tools.adapter import Adapter
    from rest_jax.tools.protocol import Call
    from rest_jax.tools.serving import open_live

    async with open_live(settings) as served:
        adapter = Adapter(served.tools, timeout_s, served.service)
        return (await adapter.answer(Call(0, tool, arguments, EPISODE), timeout_s)).reply


def _called_there(url: str, tool: str, arguments: dict[str, Any], timeout_s: float) -> ToolReply:
    from rest_jax.config.settings import ToolsSettings
    from rest_jax.tools.client import ToolClient

    with ToolClient(url, ToolsSettings(url, timeout_s=timeout_s)) as client:
        client.check()
        client.submit(0, tool, arguments, EPISODE)
        ((_, reply),) = client.poll(None)
    return reply


def _index(options: argparse.Namespace) -> None:
    from rest_jax.tools.search.corpus import read_corpus
    from rest_jax.tools.search.search import Searcher

    settings = corpus_settings_of(options)
    about = Searcher(read_corpus(Path(settings.path or "")), settings.index).about
    for name, value in {**about, "results": settings.results}.items():
        print(f"{name.replace('_', ' '):18}{' '.join(value) if isinstance(value, list) else value}")


def _object(text: str) -> dict[str, Any]:
    try:
        given = json.loads(text)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise UserError(f"'{text}' is no JSON object; give arguments such as '{{\"query\": \"…\"}}'")
    return given
