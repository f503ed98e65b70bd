"""No tools, for agents that call none over tasks that have nothing to search: no process is started for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_jax.core.effects import ToolReply


class NoTools:
    """What a rollout needs of the tools where there are none."""

    url = ""
    stateful: frozenset[str] = frozenset()

    def check(self) -> dict[str, Any]:
        """What they say of themselves: nothing."""
        return {}

    def submit(self, id: int, tool: str, arguments: Mapping[str, Any], episode: str) -> None:
        raise ValueError(f"the agent called {tool!r}, which its method does not name; write it into `Method.tools`")

    def poll(self, timeout_s: float | None) -> list[tuple[int, ToolReply]]:
        return []
