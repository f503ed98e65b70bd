"""agent.json: what a trained model's folder says of the agent that it is, so that it is the same agent elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from rest_jax.agents.registry import agent
from rest_jax.config.limits import checked
from rest_jax.config.settings import AgentSettings, ToolsSettings
from rest_jax.core.chat import ChatFormat
from rest_jax.core.errors import UserError
from rest_jax.models import checkpoint
from rest_jax.models.shrink import SHRUNK, shrunk
from rest_jax.tools.agreement import shown_by

TOOLS, STOP, EOS_ENDS = "tools", "stop", "eos_ends"

Settings = TypeVar("Settings", AgentSettings, ToolsSettings)


def agent_of(folder: Path, given: AgentSettings | None = None) -> AgentSettings:
    """How a model is played: as given, else as its agent.json says, else by default.

    Raises UserError for an agent.json that this version cannot read.
    """
    said = _said(folder) if given is None else None
    if said is None:
        return given or AgentSettings()
    about = {name: value for name, value in said.items() if name not in (TOOLS, STOP, EOS_ENDS, SHRUNK)}
    # Before `bare` was written down, a model without worked examples was meant to be.
    return _read(folder, AgentSettings, {"bare": about.get("shots") == 0, **about})


def tools_of(folder: Path, given: ToolsSettings | None = None) -> ToolsSettings:
    """What a model's tools show: as given, else as its agent.json says, else by default.

    Raises UserError as `agent_of` does.
    """
    said = _said(folder) if given is None else None
    return given or (ToolsSettings() if said is None else _read(folder, ToolsSettings, said.get(TOOLS, {})))


def at_url(tools: ToolsSettings, url: str | None) -> ToolsSettings:
    """The same tools, or those of the adapter at `url`."""
    return tools if url is None else replace(tools, url=url, config=None)


def described(settings: AgentSettings, tools: ToolsSettings, chat: ChatFormat | None) -> Mapping[str, Any]:
    """The content of agent.json; `chat` is the model's chat format.

    Beside what is read back it says, for other programs, which strings stop a turn, and whether an end-of-sequence
    token ends every turn or the last one alone.
    """
    prompt, *others = [agent(name).prompt_for(replace(settings, bare=True), chat=chat) for name in settings.methods]
    return {
        **asdict(settings),
        TOOLS: shown_by(tools),
        STOP: list(dict.fromkeys(stop for one in (prompt, *others) for stop in one.stop)),
        EOS_ENDS: "every_turn" if prompt.ends_every_turn else "last_turn",
    }


def shrunk_of(folder: Path) -> str:
    """What a model's agent.json says of layers taken from another model (`models.shrink`); mostly nothing."""
    return shrunk(_said(folder))


def _said(folder: Path) -> Mapping[str, Any] | None:
    return checkpoint.read_json(folder, checkpoint.AGENT) if (folder / checkpoint.AGENT).is_file() else None


def _read(folder: Path, kind: type[Settings], said: Mapping[str, Any]) -> Settings:
    try:
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in said.items()
        }
        return checked(kind(**fields), "agent")
    except (TypeError, UserError) as error:
        raise UserError(
            f"{folder / checkpoint.AGENT}: not of this rest_jax ({error}); give the agent's settings"
        ) from error
