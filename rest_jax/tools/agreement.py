"""Does an adapter that runs already serve what a run would have started for itself?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rest_jax.config.settings import OF_THE_CORPUS, ToolsSettings
from rest_jax.core.errors import UserError
from rest_jax.core.events import Listener, warning
from rest_jax.tools.process import serve_arguments
from rest_jax.tools.search.corpus import read_corpus


def shown_by(settings: ToolsSettings) -> dict[str, Any]:
    """The settings that decide what the tools show, by name: a file of tools, or how the task's corpus is searched."""
    names = OF_THE_CORPUS if settings.config is None else ("config",)
    return {name: getattr(settings, name) for name in names}


def refuse_another(url: str, health: Mapping[str, Any], corpus: Path, settings: ToolsSettings, emit: Listener) -> None:
    """Raise UserError unless the adapter at `url` serves this corpus under these settings.

    `health` is what it said of itself; one whose search does not name its corpus is used with a warning.
    """
    served = health.get("about", {}).get("search", {})
    if "corpus" not in served:
        warning(emit, f"the adapter at {url} does not say what it serves; it may not be the corpus of this table")
        return
    wanted = {"corpus": read_corpus(corpus).digest, **shown_by(settings)}
    if wrong := _differences(served, wanted):
        raise UserError(
            f"the adapter at {url} serves {wrong}; start it with `rest-jax tools serve "
            f"{' '.join(serve_arguments(settings, corpus))}`, or leave tools.url out"
        )


def refuse_another_recording(health: Mapping[str, Any], settings: ToolsSettings) -> None:
    """Raise UserError when `settings.cassette` was recorded with a search that other settings decided.

    `health` is what the adapter that replays it said of itself.
    """
    served = health.get("about", {}).get("search", {})
    if wrong := _differences(served, {name: value for name, value in shown_by(settings).items() if name in served}):
        raise UserError(f"{settings.cassette}: recorded with {wrong}; say so under tools, or record it again")


def refuse_missing(health: Mapping[str, Any], agent: str, called: Sequence[str]) -> None:
    """Raise UserError unless an adapter that says `health` of itself serves all tools that this agent calls."""
    served = health.get("tools", {})
    if missing := [name for name in called if name not in served]:
        raise UserError(
            f"the agent '{agent}' calls {' and '.join(missing)}, and the adapter serves only "
            f"{', '.join(served) or 'nothing'}; add what is missing to tools.config under exactly this name (an mcp "
            f"entry without `prefix`), or choose another agent.name"
        )


def refuse_trouble(health: Mapping[str, Any]) -> None:
    """Raise UserError when an adapter says of itself that it is pointless to go on: its budget is spent, or a cassette
    lacks what is asked."""
    if trouble := health.get("trouble"):
        raise UserError(f"the tool adapter cannot go on: {trouble}; then repeat the command")


def _differences(served: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {_short(served.get(name))} instead of {_short(wanted[name])}"
        for name in wanted
        if served.get(name) != wanted[name]
    )


def _short(value: Any) -> str:
    return str(value)[:12]
