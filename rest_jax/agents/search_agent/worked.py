"""The search agent's worked examples: whole stories, told through the agent itself, cut into its steps.

A story (`prompts/search_agent/stories.yaml`) is a question and, in order, what the model said and what searches found.
The agent is replayed on it, so an example looks exactly as the agent would ask. `steps.yaml` says which calls of which
stories each step shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml

from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt_files import prompt_file
from rest_jax.agents.replay import replay
from rest_jax.agents.search_agent.agent import search_agent
from rest_jax.agents.search_agent.prompt import END, RULE, StepPrompts
from rest_jax.agents.search_agent.values import Step
from rest_jax.core.effects import Candidate, Finish, Generate, Generated, Outcome, ToolReply
from rest_jax.core.trajectory import Question

LIMITS = Limits(turns=10, turn_tokens=1, observation_chars=10_000)
"""Of a story: as many searches as the paper allows, and no passage is cut."""


@dataclass(frozen=True)
class Example:
    """A call of a story."""

    question: str
    """The story's."""
    step: Step
    asked: str
    """The bare prompt."""
    said: str


@lru_cache(1)
def tasks() -> Mapping[Step, str]:
    """What each step is for, in a sentence."""
    return {step: about["task"] for step, about in _steps().items()}


@lru_cache(1)
def stories() -> Mapping[str, tuple[Outcome, tuple[Example, ...]]]:
    """Each story by its name: how it ends, and its calls."""
    return {name: _told(story["question"], story["given"]) for name, story in _read("stories.yaml").items()}


def shown(most: int) -> Mapping[Step, str]:
    """What each step's prompt shows: the class definitions, at most so many worked examples (the paper's numbers are 9,
    6, 5, 6 and 5), and the head of the next one."""
    return {step: _written(_shown(step, most)) for step in _steps()}


def asks(most: int) -> tuple[str, ...]:
    """The questions of the stories of which those prompts show a part."""
    return tuple(dict.fromkeys(one.question for step in _steps() for one in _shown(step, most)))


def _shown(step: Step, most: int) -> list[Example]:
    return [stories()[story][1][call] for story, call in _steps()[step]["shown"][:most]]


def _written(told: Sequence[Example]) -> str:
    examples = [f"{_head(number)}{one.asked}{one.said} {END}\n\n" for number, one in enumerate(told, 1)]
    return f"{prompt_file('search_agent', 'classes.txt')}\n\n{''.join(examples)}{_head(len(told) + 1)}"


def _head(number: int) -> str:
    return f"{RULE}\n# Example {number}:\n{RULE}\n"


def _told(question: str, given: Sequence[str | list[dict[str, str]]]) -> tuple[Outcome, tuple[Example, ...]]:
    """A story told through the agent. ValueError for one that has too few replies, or too many."""
    prompt = StepPrompts(tasks())
    outcomes = [_said(one) if isinstance(one, str) else ToolReply("", {"results": one}) for one in given]
    outcome, asked = replay(search_agent(Question("", question, ""), prompt, LIMITS), outcomes)
    calls = [effect for effect in asked if isinstance(effect, Generate)]
    replies = [one.text for one in outcomes if isinstance(one, Generated)]
    examples = []
    for call, said in zip(calls, replies, strict=True):
        _, *fields = call.transcript.segments
        examples.append(Example(question, Step(call.step), "".join(segment.text for segment in fields), said))
    return outcome, tuple(examples)


def _said(text: str) -> Generated:
    return Generated((Candidate((), None, text.rstrip(), Finish.STOP),))


@lru_cache(1)
def _steps() -> Mapping[Step, Any]:
    return {Step(name): about for name, about in _read("steps.yaml").items()}


def _read(name: str) -> Any:
    return yaml.safe_load(prompt_file("search_agent", name))
