"""Demonstrations: questions answered well, as worked examples of a prompt and as lines for a scripted policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rest_jax.agents.prompt import Line, Prompt, Shot
from rest_jax.core.demonstration import Demonstration
from rest_jax.core.policy import Request
from rest_jax.policies.scripted import Author

Lines = Callable[[Demonstration], tuple[Line, ...]]
"""How a method writes a demonstration, turn by turn."""


def shot(demonstration: Demonstration, lines: Lines) -> Shot:
    """A demonstration as a worked example."""
    return Shot(demonstration.question.text, lines(demonstration))


def author(demonstrations: Sequence[Demonstration], lines: Lines, prompt: Prompt) -> Author:
    """An author for a scripted policy, who says at each call what the question's demonstration says there.

    It returns the turn's text and whether an end-of-sequence token ends it (else the stop does). So a demonstration is
    replayed through the real agent and the real tools, and its trajectory is one like any other. An agent that asks
    for more turns than were demonstrated gets an empty one.
    """
    said: Mapping[str, tuple[Line, ...]] = {demo.question.id: lines(demo) for demo in demonstrations}

    def write(context: str, request: Request) -> tuple[str, bool]:
        turns = said[request.key.question_id]
        call = request.key.call
        if call >= len(turns):
            return "", True
        return turns[call].said, prompt.ends_every_turn or call == len(turns) - 1

    return write
