"""What decides all that an agent is played for, as a stage's inputs name it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rest_jax.agents.registry import registered_identities
from rest_jax.config.settings import AgentSettings, EngineSettings
from rest_jax.tasks.task import Task


def common_inputs(
    task: Task, agent: AgentSettings, engine: EngineSettings, seed: int, plays: Sequence[str]
) -> dict[str, Any]:
    """Seed, settings and data, and what the methods that play are, where they are a user's own (`method_source`)."""
    made = {"seed": seed, "agent": agent, "engine": engine, "data": task.digests()}
    own = registered_identities(plays)
    return {**made, "method_source": " ".join(own)} if own else made
