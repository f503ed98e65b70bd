"""The real tool adapter on a bad day: at random it does all that an adapter can do to a client.

Which faults come is drawn from a seed. Some queries are cursed: whatever asks them gets a failure of the
infrastructure, each time, so it is known beforehand whose trajectories cannot end well.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from zlib import crc32

from aiohttp import web

from benchmarks.adapter import adapter, serve_wrapped
from rest_jax.config.settings import ToolsSettings
from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.tools.registry import Run, ToolFailure

SETTINGS = ToolsSettings(timeout_s=2.0, retries=2)
"""Of adapter and client."""

FAULTS = {
    "rate_limited": 0.02,
    "infra": 0.02,
    "tool_error": 0.02,
    "slow": 0.02,
    "hangs": 0.005,
    "drops": 0.01,
}
"""The share of calls that meet each: failures that pass when tried again, one that the agent is to blame for, an answer
after `SLOW_S`, none before the deadline, and a connection that breaks (with all other calls of its request)."""
SLOW_S = 0.5
CURSED = 1 / 128
"""The share of queries that always fail."""

_REQUEST: ContextVar[web.Request] = ContextVar("request")


@contextmanager
def failing_adapter(corpus: Path, seed: int) -> Iterator[str]:
    """An adapter over a corpus: its URL."""
    with adapter("benchmarks.failing_tools", f"--corpus={corpus}", f"--seed={seed}") as (url, _):
        yield url


def cursed(query: str, seed: int) -> bool:
    """Whether a query never gets an answer."""
    return crc32(f"{seed} {query}".encode()) < CURSED * 2**32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    drawn = random.Random(options.seed)

    def failing(run: Run) -> Run:
        async def fail_or_run(arguments: Mapping[str, Any], episode: str) -> ToolReply:
            if cursed(arguments.get("query", ""), options.seed):
                raise ToolFailure(ToolErrorKind.INFRA, "this query is cursed")
            (fault,) = drawn.choices([*FAULTS, "none"], [*FAULTS.values(), 1 - sum(FAULTS.values())])
            await _suffer(fault)
            return await run(arguments, episode)

        return fail_or_run

    serve_wrapped(
        options.corpus, SETTINGS, failing, change=lambda app: app.middlewares.append(_remember_whose_call_it_is)
    )


async def _suffer(fault: str) -> None:
    match fault:
        case "rate_limited" | "infra" | "tool_error":
            raise ToolFailure(ToolErrorKind(fault), "a bad day")
        case "slow":
            await asyncio.sleep(SLOW_S)
        case "hangs":
            await asyncio.Event().wait()
        case "drops":
            if (transport := _REQUEST.get().transport) is not None:
                transport.abort()
            await asyncio.Event().wait()  # the server cancels what works for a client that is gone


@web.middleware
async def _remember_whose_call_it_is(request: web.Request, handler: Any) -> web.StreamResponse:
    _REQUEST.set(request)
    return await handler(request)


if __name__ == "__main__":
    main()
