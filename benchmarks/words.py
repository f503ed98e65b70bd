"""What scripted trajectories say in a random model's place, call by call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import cycle, islice

from rest_jax.agents.prompt import Prompt
from rest_jax.agents.react import react_lines
from rest_jax.agents.registry import AnyMethod, Method
from rest_jax.core.demonstration import Demonstration
from rest_jax.core.policy import Request
from rest_jax.core.transcript import Source

Words = Callable[[Request], str]


def in_order(said: Mapping[str, Sequence[str]]) -> Words:
    """By question id, what its calls say one after the other; the last again for an agent that asks for more."""

    def words(request: Request) -> str:
        lines = said[request.key.question_id]
        return lines[min(request.key.call, len(lines) - 1)]

    return words


def filled(lines: Sequence[str], turns: int) -> tuple[str, ...]:
    """The lines stretched or cut to so many turns: the first ones, again from the beginning when they are few, and in
    the last turn the last one."""
    return (*islice(cycle(lines[:-1]), turns - 1), lines[-1])


def demonstrated(method: AnyMethod, prompt: object, demonstrations: Sequence[Demonstration], turns: int) -> Words:
    """What a method's calls say in these questions' demonstrations, so that it takes as many calls as it may.

    A method of lines is never satisfied: its attempts take all turns and end in an answer that is wrong, another one
    each time, and steps beside them say what the demonstration searches, never that an answer stands.
    """
    if not (isinstance(method, Method) and isinstance(prompt, Prompt)):
        write = method.author(demonstrations, prompt)
        return lambda request: write("".join(segment.text for segment in request.segments), request)[0]
    of = {demonstration.question.id: demonstration for demonstration in demonstrations}
    looking_back = tuple({step.cue for step in prompt.beside.values()} - {prompt.cue})

    def words(request: Request) -> str:
        wrong = _answering(of[request.key.question_id], f"nobody {request.key.trial}")
        turn = sum(segment.source in (Source.MODEL, Source.IMPORTED) for segment in request.segments)
        if request.segments[-1].text.endswith(looking_back):
            searches = react_lines(wrong)[:-1]
            return searches[turn % len(searches)].said
        said = filled([line.said for line in method.lines(wrong)], turns)
        return said[min(turn, len(said) - 1)]

    return words


def _answering(demonstration: Demonstration, answer: str) -> Demonstration:
    *before, last = demonstration.turns
    return replace(demonstration, turns=(*before, replace(last, argument=answer)))
