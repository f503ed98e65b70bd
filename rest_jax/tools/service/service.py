"""The service: what the adapter asks instead of its tools.

single flight (stateless tools) → memories (a cassette, the cache) → budget → retries → breaker → limits → budget → tool
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from rest_jax.core.effects import ToolFault, ToolReply
from rest_jax.tools.protocol import CacheStatus
from rest_jax.tools.registry import Refusal, ToolFailure
from rest_jax.tools.service.breaker import breaking
from rest_jax.tools.service.budget import Budget
from rest_jax.tools.service.cache import open_cache
from rest_jax.tools.service.cassettes import Recorder
from rest_jax.tools.service.flights import Flights
from rest_jax.tools.service.limits import limiting
from rest_jax.tools.service.query import Answer, Ask, Clock, Memory, Query, Trouble, run_tool
from rest_jax.tools.service.retries import retrying
from rest_jax.tools.service.settings import ProviderLimits, ServiceSettings

SESSIONS = 100_000
"""Episodes whose calls of stateful tools are told apart by what came before; the first ones are forgotten."""


class Service:
    """Answers queries: from its memories, the first one first, else by `ask`.

    What one memory knows, those before it learn. Equal queries under way at one time are one, if their tool's answers
    are kept: of another tool, one that comes later may have another answer.
    """

    def __init__(
        self,
        ask: Ask = run_tool,
        memories: Sequence[Memory] = (),
        trouble: Trouble | None = None,
        histories: Mapping[str, str] | None = None,
    ) -> None:
        """`histories`: by episode, the key of its last call of a stateful tool, where a process before asked it."""
        self.trouble = trouble or Trouble()
        self._ask = ask
        self._memories = tuple(memories)
        self._flights: Flights[Answer] = Flights()
        self._sessions = dict(histories or {})
        """By episode, the key of its last call of a stateful tool."""

    async def recall(self, queries: Sequence[Query]) -> list[Answer | None]:
        """What is remembered of many queries at once, stateful tools left out. Their arguments need not have been
        checked: only right ones were ever answered."""
        answers: list[Answer | None] = [None] * len(queries)
        stateless = [at for at, query in enumerate(queries) if not query.tool.stateful]
        for at, answer in zip(stateless, await self._recall([queries[at] for at in stateless]), strict=True):
            answers[at] = answer
        return answers

    async def answer(self, query: Query) -> Answer:
        """The answer to one query whose arguments are right. Raises ToolFailure for what is not the agent's fault."""
        try:
            if query.key is None:
                return await self._asked(query)
            if query.tool.stateful:
                before = "" if query.begins else self._sessions.get(query.episode, "")
                return await self._answer_in_session(replace(query, before=before))
            if query.tool.is_kept:
                return await self._answer_once(query, query.key)
            return await self._remembered_or_asked(query)
        except BaseException:
            self._sessions.pop(query.episode, None)  # an episode that meets a failure begins again
            raise

    async def _answer_in_session(self, query: Query) -> Answer:
        answer = await self._remembered_or_asked(query)
        self._sessions[query.episode] = query.key or ""
        if len(self._sessions) > SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return answer

    async def _answer_once(self, query: Query, key: str) -> Answer:
        answer, mine = await self._flights.join(key, lambda: self._remembered_or_asked(query))
        shared = answer.cache in (CacheStatus.MISS, CacheStatus.BYPASS) and not mine
        return replace(answer, cache=CacheStatus.HIT, attempts=0) if shared else answer

    async def _remembered_or_asked(self, query: Query) -> Answer:
        (answer,) = await self._recall([query])
        return answer or await self._kept(query, await self._asked(query), self._memories)

    async def _recall(self, queries: Sequence[Query]) -> list[Answer | None]:
        answers: list[Answer | None] = [None] * len(queries)
        for place, memory in enumerate(self._memories):
            unknown = [at for at, query in enumerate(queries) if answers[at] is None and query.key is not None]
            recalled = await memory.recall([queries[at] for at in unknown]) if unknown else []
            for at, answer in zip(unknown, recalled, strict=True):
                answers[at] = answer and await self._kept(queries[at], answer, self._memories[:place])
        return answers

    async def _asked(self, query: Query) -> Answer:
        try:
            return await self._ask(query)
        except ToolFailure as failure:
            if isinstance(failure, Refusal):
                self.trouble.report(str(failure))
            if failure.kind.is_infrastructure:
                raise
            fault = ToolFault(failure.kind, str(failure))
            return Answer(ToolReply("", fault=fault), attempts=failure.attempts)

    async def _kept(self, query: Query, answer: Answer, memories: Sequence[Memory]) -> Answer:
        for memory in reversed(memories):
            answer = await memory.keep(query, answer)
        return answer


def asking(
    settings: ServiceSettings,
    defaults: Mapping[str, ProviderLimits],
    *,
    ledger: Path | None = None,
    trouble: Trouble | None = None,
    clock: Clock | None = None,
) -> Ask:
    """A tool's run with everything but memory around it. `defaults`: limits of providers that the settings leave out.

    `ledger` is the file in which a budget is kept.
    """
    clock = clock or Clock()
    limits = {**defaults, **{own.provider: own for own in settings.limits}}
    budget = Budget(settings.dollars, ledger, trouble) if settings.dollars is not None else None
    ask = budget.paying(run_tool) if budget else run_tool
    ask = retrying(breaking(limiting(ask, limits, clock), settings.breaker, clock), settings.retries, clock)
    return budget.guarding(ask) if budget else ask


@asynccontextmanager
async def open_service(
    settings: ServiceSettings,
    defaults: Mapping[str, ProviderLimits],
    *,
    recorder: Recorder | None = None,
    ledger: Path | None = None,
    trouble: Trouble | None = None,
) -> AsyncIterator[Service]:
    """The service of these settings for the length of a block, in which a recorder hears every answer."""
    trouble = trouble or Trouble()
    async with AsyncExitStack() as opened:
        memories: list[Memory] = [recorder] if recorder is not None else []
        if settings.cache is not None:
            memories.append(await opened.enter_async_context(open_cache(settings.cache)))
        histories = recorder.histories if recorder is not None else None
        yield Service(asking(settings, defaults, ledger=ledger, trouble=trouble), memories, trouble, histories)
