"""The real tool adapter with two tools that do nothing: `wait` takes 20 ms to do it, as a remote one would."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from benchmarks.adapter import serve_tools
from rest_jax.core.effects import ToolReply
from rest_jax.tools.registry import Schema, Tool

WAIT_S = 0.02

QUERY: Schema = {
    "type": "object",
    "properties": {"query": {"type": "string"}},
    "required": ["query"],
    "additionalProperties": False,
}


async def nothing(arguments: Mapping[str, Any], episode: str) -> ToolReply:
    return ToolReply(arguments["query"])


async def wait(arguments: Mapping[str, Any], episode: str) -> ToolReply:
    await asyncio.sleep(WAIT_S)
    return ToolReply(arguments["query"])


if __name__ == "__main__":
    serve_tools([Tool(run.__name__, "1", "For benchmarks.", QUERY, run) for run in (nothing, wait)], timeout_s=600)
