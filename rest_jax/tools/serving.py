"""What an adapter serves, ready to answer: tools and the service before them, live, recorded or replayed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rest_jax.core.secrets import redacted
from rest_jax.tools.redact import secrets_of
from rest_jax.tools.registry import Tool
from rest_jax.tools.search.terms import TERMS
from rest_jax.tools.service.cassettes import Player, Recorder, read_cassette, replayed_tools
from rest_jax.tools.service.query import Trouble
from rest_jax.tools.service.service import Service, open_service
from rest_jax.tools.service.settings import ProviderLimits
from rest_jax.tools.settings import AdapterSettings, open_tools

DEFAULT_LIMITS: Mapping[str, ProviderLimits] = {name: ProviderLimits(name, **terms) for name, terms in TERMS.items()}
"""Limits of providers whose terms are known, by name."""


@dataclass(frozen=True)
class Served:
    """Tools, and what is asked in their place."""

    tools: tuple[Tool, ...]
    service: Service


@asynccontextmanager
async def open_live(
    settings: AdapterSettings, *, record: Path | None = None, spent: Path | None = None
) -> AsyncIterator[Served]:
    """The tools of these settings behind their service, for the length of a block.

    `record` is the folder of a cassette that keeps every answer; `spent` the file in which a budget is kept. Raises
    UserError for what the settings' own openers refuse, and for a cassette that cannot take these tools.
    """
    async with AsyncExitStack() as opened:
        tools = await opened.enter_async_context(open_tools(settings))
        clean = partial(redacted, secrets=secrets_of(settings))
        trouble = Trouble()
        recorder = opened.enter_context(Recorder(record, tools, clean, trouble)) if record is not None else None
        service = open_service(settings.service, DEFAULT_LIMITS, recorder=recorder, ledger=spent, trouble=trouble)
        yield Served(tools, await opened.enter_async_context(service))


def replayed(cassette: Path) -> Served:
    """What a cassette holds; nothing else is needed or asked. Raises UserError for one that cannot be read."""
    recorded, trouble = read_cassette(cassette), Trouble()
    return Served(replayed_tools(recorded, trouble), Service(memories=[Player(recorded)], trouble=trouble))
