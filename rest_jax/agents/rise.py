"""RISE: the same question again and again, told of the attempts before (Qu et al. 2024, section 4; the released code).

think ─→ told that it is wrong ─┐   5 attempts, whatever they answer
  ↑─────────────────────────────┘

Each attempt opens a transcript of its own, so each is a training sequence in which it alone is learned.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any

from rest_jax.agents.attempt import Attempt
from rest_jax.agents.attempts import latest
from rest_jax.agents.cot import answer_of, concluded, cot_lines, think
from rest_jax.agents.endings import broken_off, spoiled
from rest_jax.agents.gates import gold
from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import Line, Prompt, Told
from rest_jax.core.demonstration import Demonstration
from rest_jax.core.effects import Agent, Candidate, Effect, Generated, Outcome, finished
from rest_jax.core.trajectory import Question

ATTEMPTS = 5
"""At inference (section 5)."""
COLLECTED = 2
"""Of a trajectory to learn from: one, and what could have been said in its place."""
VERDICT = "Verdict:"
AGAIN = "That is not the right answer. Try once more."
"""What the model is always told, right or wrong."""
NEUTRAL = "Read the question once more, then answer it."
"""The control: the same turns without a word about the answer."""


def rise(verdict: str, memory: int | None = None) -> Callable[[Question, Prompt, Limits], Agent]:
    """An agent of five attempts; the outcome is the last that has an answer, and no gold answer has a part in it.

    An attempt is told the latest `memory` attempts before it, each with this verdict; None: as many as
    `agent.memory` says. Without memory the attempts know nothing of one another: samples at equal budget.
    """

    def run(question: Question, prompt: Prompt, limits: Limits) -> Agent:
        told: list[tuple[Told, Told]] = []
        outcome: Outcome | None = None
        known = limits.memory if memory is None else memory
        for trial in range(ATTEMPTS):
            reply = yield think(question, _telling(prompt, told, known), limits, trial=trial)
            now = concluded(reply)
            outcome = now if outcome is None else latest(outcome, now)
            if broken_off(reply) is not None:
                break
            told.append(((prompt.cue, reply.text), (VERDICT, verdict)))
        assert outcome is not None
        return outcome

    return run


def rise_collect(question: Question, prompt: Prompt, limits: Limits) -> Agent:
    """A trajectory to learn from: where the oracle says that the first attempt is wrong, `agent.candidates` second ones
    are drawn, and the first that it finds right is the outcome and the reply (best-of-N self-distillation); the first
    that answers at all, where none is right."""
    first: Generated = yield think(question, prompt, limits)
    outcome = concluded(first)
    if broken_off(first) is not None or (yield from gold(question, prompt, limits, Attempt(0, outcome))) is not None:
        return outcome
    told = [((prompt.cue, first.text), (VERDICT, AGAIN))]
    drawing = think(question, _telling(prompt, told, None), limits, trial=COLLECTED - 1, n=limits.candidates)
    second: Generated = yield replace(drawing, choose=_first_answered)
    if (nothing := spoiled(second)) is not None:
        return nothing
    found = yield from _first_right(question, prompt, limits, second)
    return found or latest(outcome, concluded(second))


def rise_lines(demonstration: Demonstration) -> tuple[Line, ...]:
    """A demonstration stands by its answer, whatever it is told."""
    return cot_lines(demonstration) * ATTEMPTS


def _telling(prompt: Prompt, told: list[tuple[Told, Told]], memory: int | None) -> Prompt:
    known = told if memory is None else told[max(0, len(told) - memory) :]
    return prompt.telling(*(line for attempt in known for line in attempt))


def _first_right(
    question: Question, prompt: Prompt, limits: Limits, reply: Generated
) -> Generator[Effect, Any, Outcome | None]:
    """The first candidate that is right, each answer asked about once."""
    answers = [answer_of(candidate) for candidate in reply.candidates]
    for answer in dict.fromkeys(answers):
        if answer is not None:
            attempt = Attempt(COLLECTED - 1, finished(answer, answers.index(answer)))
            if (right := (yield from gold(question, prompt, limits, attempt))) is not None:
                return right
    return None


def _first_answered(chains: Sequence[Candidate]) -> int:
    return next((place for place, chain in enumerate(chains) if answer_of(chain) is not None), 0)
