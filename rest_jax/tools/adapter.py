"""What answers a call: the tool of its name, within its time, as a typed result whatever happens."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace

from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.tools.metrics import Metrics
from rest_jax.tools.protocol import Call, Result, failure
from rest_jax.tools.registry import Tool, ToolFailure
from rest_jax.tools.service.query import Answer, Query
from rest_jax.tools.service.service import Service
from rest_jax.tools.turns import Waited

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
        """The result of one call within the deadline, and within the adapter's own limit from its turn on; never an
        exception."""
        tool = self.tools.get(call.tool)
        if tool is None:
            names = ", ".join(self.tools)
            message = f"there is no tool {call.tool[:100]!r}, only {names}"
            return replace(failure(call.id, ToolErrorKind.BAD_ARGUMENTS, message), attempts=0)
        with self.metrics.in_flight(tool.name):
            began = time.perf_counter()
            result = await self._run(tool, call, deadline_s)
            return self._counted(tool, result, time.perf_counter() - began)

    async def _run(self, tool: Tool, call: Call, deadline_s: float) -> Result:
        try:
            query = Query(tool, tool.check(call.arguments), call.episode, begins=call.begins)
        except ToolFailure as error:
            return replace(failure(call.id, error.kind, str(error)), attempts=0)
        own_s = min(deadline_s, self._timeout_s)
        try:
            async with tool.turns.take(deadline_s) if tool.turns else nullcontext(deadline_s) as left_s:
                return _result(call, await self._answer_within(query, min(left_s, own_s), own_s))
        except ToolFailure as error:
            failed = failure(call.id, error.kind, str(error), retryable=error.retryable)
            return replace(failed, attempts=error.attempts)
        except Exception as error:  # a tool's defect must neither stop the batch nor be held against the model
            logger.exception("%s failed on %s", tool.name, repr(dict(call.arguments))[:LOGGED_CHARS])
            return failure(call.id, ToolErrorKind.INFRA, f"{tool.name}: {type(error).__name__}: {error}")

    async def _answer_within(self, query: Query, limit_s: float, own_s: float) -> Answer:
        """The answer in so many seconds. Raises ToolFailure: a timeout, unless the call's own time was `own_s` and it
        only had less because it waited."""
        try:
            async with asyncio.timeout(limit_s):
                return await self._service.answer(replace(query, until=time.monotonic() + limit_s))
        except TimeoutError:
            name = query.tool.name
            if limit_s < own_s:
                raise Waited(f"{name} had to wait, and had {limit_s:.1f} s of {own_s:g} s left", attempts=1) from None
            raise ToolFailure(ToolErrorKind.TIMEOUT, f"{name} took more than {limit_s:g} s") from None

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
