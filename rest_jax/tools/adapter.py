"""What answers a call: the tool of its name, within its time, as a typed result whatever happens."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.tools.metrics import Metrics
from rest_jax.tools.protocol import Call, Result, failure
from rest_jax.tools.registry import Tool, ToolFailure
from rest_jax.tools.service.query import Answer, Query
from rest_jax.tools.service.service import Service

logger = logging.getLogger(__name__)

LOGGED_CHARS = 1000
"""How much of a call's arguments is logged when a tool's defect meets it."""


class Adapter:
    """Answers calls with the tools it is given, and counts what it answers."""

    def __init__(self, tools: Sequence[Tool], timeout_s: float, service: Service | None = None) -> None:
        """`service` stands between calls and tools; without one the tools are run as they are."""
        self.tools: Mapping[str, Tool] = {tool.name: tool for tool in tools}
        self.metrics = Metrics(self.tools)
        self._timeout_s = timeout_s
        self._service = service or Service()

    @property
    def trouble(self) -> str:
        """Why it is pointless to go on; empty while it is not."""
        return self._service.trouble.text

    async def recall(self, calls: Sequence[Call], deadline_s: float) -> list[Result]:
        """The results that are remembered: of thousands of calls by one look, not by a task for each."""
        began = time.perf_counter()
        known = [call for call in calls if call.tool in self.tools]
        queries = [Query(self.tools[call.tool], call.arguments, call.episode) for call in known]
        try:
            async with asyncio.timeout(min(deadline_s, self._timeout_s)):
                answers = await self._service.recall(queries)
        except TimeoutError:
            return []  # each call will say so of itself
        seconds = time.perf_counter() - began
        return [
            self._counted(query.tool, _result(call, answer), seconds)
            for call, query, answer in zip(known, queries, answers, strict=True)
            if answer is not None
        ]

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
            return self._counted(tool, result, time.perf_counter() - began)

    async def _run(self, tool: Tool, call: Call, limit_s: float) -> Result:
        try:
            arguments = tool.check(call.arguments)
        except ToolFailure as error:
            return replace(failure(call.id, error.kind, str(error)), attempts=0)
        try:
            async with asyncio.timeout(limit_s):
                until = time.monotonic() + limit_s
                query = Query(tool, arguments, call.episode, until=until, begins=call.begins)
                return _result(call, await self._service.answer(query))
        except ToolFailure as error:
            failed = failure(call.id, error.kind, str(error), retryable=error.retryable)
            return replace(failed, attempts=error.attempts)
        except TimeoutError:
            return failure(call.id, ToolErrorKind.TIMEOUT, f"{tool.name} took more than {limit_s:g} s")
        except Exception as error:  # a tool's defect must neither stop the batch nor be held against the model
            logger.exception("%s failed on %s", tool.name, repr(dict(call.arguments))[:LOGGED_CHARS])
            return failure(call.id, ToolErrorKind.INFRA, f"{tool.name}: {type(error).__name__}: {error}")

    def _counted(self, tool: Tool, result: Result, seconds: float) -> Result:
        self.metrics.count(tool.name, result, seconds)
        said = result.reply
        return Result(
            result.id,
            ToolReply(said.content, said.data, said.fault, tool.version),
            result.retryable and not tool.stateful,
            result.cache,
            result.attempts,
            1000 * seconds,
        )


def _result(call: Call, answer: Answer) -> Result:
    return Result(call.id, answer.reply, cache=answer.cache, attempts=answer.attempts)
