"""What an adapter serves, as a YAML file says it: a list of entries, each a kind of tools and its settings.

    tools:
      - kind: corpus
        path: passages.jsonl
        results: 3
        index: {k1: 0.9, b: 0.4}
    service:
      limits: [{provider: serper, per_second: 5}]
      dollars: 20

Each kind is one frozen dataclass and one function that opens it, in a module of its own that is imported when an entry
names it: what a kind needs beyond the package itself is an extra.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from rest_jax.config.coerce import value_of
from rest_jax.config.limits import Some, faults
from rest_jax.config.source import Misfit, did_you_mean, nearest, place, read
from rest_jax.core.errors import UserError
from rest_jax.tools.redact import redacting, redacting_logs, secrets_of
from rest_jax.tools.registry import Tool
from rest_jax.tools.service.settings import ServiceSettings

TOOLS, KIND = "tools", "kind"


@dataclass(frozen=True)
class Family:
    """Where a kind of tools is found: its settings, and the asynchronous context manager that opens them."""

    module: str
    settings: str
    opener: str
    extra: str = ""
    """The extra of this package that brings what its module imports."""


FAMILIES: Mapping[str, Family] = {
    "corpus": Family("rest_jax.tools.search.local", "CorpusSettings", "open_corpus"),
    "retriever": Family("rest_jax.tools.search.retriever", "RetrieverSettings", "open_retriever"),
    "serper": Family("rest_jax.tools.search.serper", "SerperSettings", "open_serper"),
    "brave": Family("rest_jax.tools.search.brave", "BraveSettings", "open_brave"),
    "wikipedia": Family("rest_jax.tools.search.wikipedia", "WikipediaSettings", "open_wikipedia"),
    "fetch": Family("rest_jax.tools.search.fetch", "FetchSettings", "open_fetch"),
    "python": Family("rest_jax.tools.sandbox.python", "PythonSettings", "open_python"),
    "functions": Family("rest_jax.tools.bridges.functions", "FunctionsSettings", "open_functions"),
    "mcp": Family("rest_jax.tools.bridges.mcp", "McpSettings", "open_mcp", extra="mcp"),
    "profanity": Family("rest_jax.tools.scorers.profanity", "ProfanitySettings", "open_profanity"),
    "perspective": Family("rest_jax.tools.scorers.perspective", "PerspectiveSettings", "open_perspective"),
    "textworld": Family("rest_jax.tools.environments.games", "TextWorldSettings", "open_textworld"),
    "alfworld": Family("rest_jax.tools.environments.alfworld", "AlfWorldSettings", "open_alfworld"),
}
"""Every kind of tools, by the name that an entry calls it."""


@dataclass(frozen=True)
class AdapterSettings:
    """What one adapter serves."""

    tools: Some[Any] = ()
    """The settings of each entry; of which kind they are says their class."""
    service: ServiceSettings = field(default_factory=ServiceSettings)
    """Cache, limits, retries and budget: what stands between a call and its tool."""


def read_settings(path: Path) -> AdapterSettings:
    """The settings in a YAML file; relative paths in it start from the working folder.

    Raises UserError, `file:line:column: what; how to mend it`, for whatever the settings do not allow, and for a kind
    whose extra is not installed.
    """
    top = read(path)
    try:
        settings = _settings_of(top)
    except Misfit as misfit:
        raise UserError(f"{place(misfit.node)}: {misfit}") from None
    for fault in faults(settings, AdapterSettings):
        raise UserError(f"{place(nearest(top, fault.path))}: {'.'.join(fault.path)}: {fault.message}")
    return settings


def with_corpus(settings: AdapterSettings, corpus: Path) -> AdapterSettings:
    """The same, with `corpus` as the file of each entry of kind corpus that names none."""
    from rest_jax.tools.search.local import CorpusSettings

    def filled(entry: Any) -> Any:
        nameless = isinstance(entry, CorpusSettings) and entry.path is None
        return replace(entry, path=str(corpus)) if nameless else entry

    return replace(settings, tools=tuple(filled(entry) for entry in settings.tools))


@asynccontextmanager
async def open_tools(settings: AdapterSettings) -> AsyncIterator[tuple[Tool, ...]]:
    """The tools of all entries, in order; closed at the end, the last first. Neither answers nor logs hold secrets.

    Raises UserError for what an entry's own opener refuses, and for two tools of one name.
    """
    secrets = secrets_of(settings)
    async with AsyncExitStack() as opened:
        opened.enter_context(redacting_logs(secrets))
        tools: dict[str, Tool] = {}
        for entry in settings.tools:
            for tool in await opened.enter_async_context(_opener(type(entry))(entry)):
                if tool.name in tools:
                    raise UserError(f"two tools are called '{tool.name}'; leave one of their entries out")
                tools[tool.name] = redacting(tool, secrets)
        yield tuple(tools.values())


def _opener(settings: type) -> Any:
    family = next(family for family in FAMILIES.values() if family.settings == settings.__name__)
    return getattr(import_module(family.module), family.opener)


def _settings_of(top: MappingNode) -> AdapterSettings:
    entries = next((value for key, value in top.value if key.value == TOOLS), None)
    rest = [pair for pair in top.value if pair[1] is not entries]
    settings: AdapterSettings = value_of(MappingNode(top.tag, rest, top.start_mark, top.end_mark), AdapterSettings, "")
    if entries is None:
        return settings
    if not isinstance(entries, SequenceNode):
        raise Misfit(entries, f"{TOOLS}: expected a list, each entry with its {KIND}")
    return replace(settings, tools=tuple(_entry_of(node, f"{TOOLS}.{at}") for at, node in enumerate(entries.value)))


def _entry_of(node: Node, path: str) -> Any:
    pairs = node.value if isinstance(node, MappingNode) else []
    kind = next((value for key, value in pairs if key.value == KIND), None)
    if not isinstance(kind, ScalarNode):
        raise Misfit(kind or node, f"{path}: expected settings with a {KIND}; there is {', '.join(FAMILIES)}")
    if kind.value not in FAMILIES:
        raise Misfit(kind, f"{path}: unknown {KIND} '{kind.value}'; {did_you_mean(kind.value, FAMILIES)}")
    own = [pair for pair in pairs if pair[1] is not kind]
    settings = _imported(kind, FAMILIES[kind.value])
    return value_of(MappingNode(node.tag, own, node.start_mark, node.end_mark), settings, path)


def _imported(kind: ScalarNode, family: Family) -> type:
    try:
        return getattr(import_module(family.module), family.settings)
    except ModuleNotFoundError as error:
        if not family.extra:
            raise
        mend = f"pip install 'rest_jax[{family.extra}]'"
        raise Misfit(kind, f"{KIND} {kind.value}: {error.name} is not installed; {mend}") from error
