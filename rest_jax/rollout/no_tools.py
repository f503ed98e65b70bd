"""No tools, for agents that call none over tasks that have nothing to search: no process is started for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_jax.core.effects import ToolErrorKind, ToolFault, ToolReply


class NoTools:
    """What a rollout needs of the tools where there are none."""

    url = ""
    stateful: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._ready: list[tuple[int, ToolReply]] = []

    def check(self) -> dict[str, Any]:
        """What they say of themselves: nothing."""
        return {}

    def submit(self, id: int, tool: str, arguments: Mapping[str, Any], episode: str) -> None:
        """A fault, as an adapter's without this tool."""
        why = f"no tool {tool!r} is here, for its method names none; write it into `Method.tools`"
        self._ready.append((id, ToolReply("", fault=ToolFault(ToolErrorKind.BAD_ARGUMENTS, why))))

    def end(self, episode: str) -> None:
        """Nothing is kept of an episode."""

    def poll(self, timeout_s: float | None) -> list[tuple[int, ToolReply]]:
        ready, self._ready = self._ready, []
        return ready
