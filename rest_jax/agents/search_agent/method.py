"""The search agent as a method of the registry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import chat_of
from rest_jax.agents.search_agent import demonstrations as scripts
from rest_jax.agents.search_agent.agent import search_agent
from rest_jax.agents.search_agent.prompt import StepPrompts
from rest_jax.agents.search_agent.worked import asks, shown, tasks
from rest_jax.config.settings import AgentSettings
from rest_jax.core.chat import ChatFormat
from rest_jax.core.demonstration import Demonstration
from rest_jax.core.effects import Agent
from rest_jax.core.trajectory import Question
from rest_jax.policies.scripted import Author


@dataclass(frozen=True)
class SearchAgent:
    """It brings its worked examples itself: `agent.shots` says how many each step shows at most."""

    name: str = "search_agent"
    tools: tuple[str, ...] = ("search",)
    candidates: bool = True
    trainable: bool = True
    oracle: bool = False
    tries: bool = False
    turn_tokens: int = 256
    own_shots: bool = True
    run: Callable[[Question, StepPrompts, Limits], Agent] = search_agent

    def prompt_for(
        self, settings: AgentSettings, shots: Sequence[Demonstration] = (), chat: ChatFormat | None = None
    ) -> StepPrompts:
        chat = chat_of(settings.style, chat)
        if settings.bare:
            return StepPrompts(tasks(), chat=chat)
        return StepPrompts(tasks(), shown(settings.shots), chat, asks(settings.shots))

    def author(self, demonstrations: Sequence[Demonstration], prompt: StepPrompts) -> Author:
        return scripts.author(demonstrations, prompt)
