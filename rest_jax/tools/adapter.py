"""What answers a call: the tool of its name, within its time, as a typed result whatever happens."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from rest_jax.core.effects import ToolErrorKind
from rest_jax.tools.metrics import Metrics
from rest_jax.tools.protocol import Call, Result, failure
from rest_jax.tools.registry import Tool, ToolFailure

logger = logging.getLogger(__name__)


class Adapter:
    """Answers calls with the tools it is given, and counts what it answers."""

    def __init__(self, tools: Sequence[Tool], timeout_s: float) -> None:
        self.tools: Mapping[str, Tool] = {tool.name: tool for tool in tools}
        self.metrics = Metrics(self.tools)
        self._timeout_s = timeout_s

    async def answer(self, call: Call, deadline_s: float) -> Result:
        """The result of one call within the deadline and the adapter's own limit; never an exception."""
        tool = self.tools.get(call.tool)
        if tool is None:
            names = ", ".join(self.tools)
            message = f"there is no tool {call.tool[:100]!r}, only {names}"
            return replace(failure(call.id, ToolErrorKind.BAD_ARGUMENTS, message), attempts=0)
        with self.metrics.in_flight(tool.name):
            began = time.perf_counter()
            result = await self._run(tool, call, min(deadline_s, self._timeout_s))
            seconds = time.perf_counter() - began
        self.metrics.count(tool.name, result, seconds)
        return replace(
            result,
            reply=replace(result.reply, tool_version=tool.version),
            retryable=result.retryable and not tool.stateful,
            latency_ms=1000 * seconds,
        )

    async def _run(self, tool: Tool, call: Call, limit_s: float) -> Result:
        try:
            tool.check(call.arguments)
        except ToolFailure as error:
            return replace(failure(call.id, error.kind, str(error)), attempts=0)
        try:
            async with asyncio.timeout(limit_s):
                return Result(call.id, await tool.run(call.arguments, call.episode))
        except ToolFailure as error:
            return failure(call.id, error.kind, str(error))
        except TimeoutError:
            return failure(call.id, ToolErrorKind.TIMEOUT, f"{tool.name} took more than {limit_s:g} s")
        except Exception as error:  # a tool's defect must neither stop the batch nor be held against the model
            logger.exception("%s failed on %r", tool.name, dict(call.arguments))
            return failure(call.id, ToolErrorKind.INFRA, f"{tool.name}: {type(error).__name__}: {error}")
