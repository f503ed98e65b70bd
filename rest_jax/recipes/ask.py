"""Ask a model one question, and follow it as it thinks, acts and observes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rest_jax.core.effects import Agent, CallTool, Effect, Generate, Generated, Outcome, ToolReply

Tell = Callable[[str, str], None]
"""Told (kind, text) for everything that happens; kind is model, tool or answer."""


def narrated(agent: Agent, tell: Tell) -> Agent:
    """The same agent, with `tell` listening: an agent is a generator, so whoever drives it can look on."""
    try:
        effect: Effect = next(agent)
        while True:
            result = yield effect
            _tell(effect, result, tell)
            effect = agent.send(result)
    except StopIteration as stop:
        outcome: Outcome = stop.value
        tell("answer", outcome.answer if outcome.answer is not None else f"{outcome.status.value}: {outcome.why}")
        return outcome


def _tell(effect: Effect, result: Any, tell: Tell) -> None:
    match effect, result:
        case Generate(), Generated():
            tell("model", result.text.strip())
        case CallTool(), ToolReply():
            tell(
                "tool", result.content if result.fault is None else f"{result.fault.kind.value}: {result.fault.message}"
            )
