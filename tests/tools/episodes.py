"""Stateful tools in a test: asked by an adapter, on behalf of episodes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.tools.adapter import Adapter
from rest_jax.tools.protocol import Call
from rest_jax.tools.registry import Tool

Ask = Callable[..., Awaitable[ToolReply]]
"""ask(tool, episode, **arguments)."""


def with_tools(opened: AbstractAsyncContextManager[tuple[Tool, ...]], work: Callable[[Ask], Awaitable[None]]) -> None:
    """Run `work` with an adapter of these tools to ask."""

    async def run() -> None:
        async with opened as tools:
            adapter = Adapter(tools, 120)

            async def ask(tool: str, episode: str = "e", **arguments: Any) -> ToolReply:
                return (await adapter.answer(Call(1, tool, arguments, episode), 120)).reply

            await work(ask)

    asyncio.run(run())


def fault(reply: ToolReply) -> tuple[ToolErrorKind, str]:
    assert reply.fault is not None
    return reply.fault.kind, reply.fault.message
