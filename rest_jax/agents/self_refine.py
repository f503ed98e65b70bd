"""Self-Refine: an answer, feedback on it, a better answer (Madaan et al. 2023, algorithm 1). One model plays all parts.

think → feedback ─ it stands → the answer
           ↑  └─ else refine ─┐
           └──────────────────┘  at most 4 times
"""

from __future__ import annotations

from rest_jax.agents.attempts import STANDS, latest, stands
from rest_jax.agents.cot import concluded, cot_lines, think
from rest_jax.agents.endings import broken_off
from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import Line, Prompt, Told
from rest_jax.core.demonstration import Demonstration
from rest_jax.core.effects import Agent
from rest_jax.core.trajectory import Question

ROUNDS = 4
"""Refinements at most (section 3)."""


def self_refine(question: Question, prompt: Prompt, limits: Limits) -> Agent:
    """Refine a chain of thought until feedback finds nothing wrong; the answer is the last one that was given.

    Feedback sees the latest attempt alone, a refinement all attempts and what was said of them.
    """
    feedback, refine = prompt.beside["feedback"], prompt.beside["refine"]
    reply = yield think(question, prompt, limits)
    outcome, told = concluded(reply), list[Told]()
    for trial in range(ROUNDS):
        if broken_off(reply) is not None:
            break
        attempt = (prompt.cue, reply.text)
        reply = yield think(question, feedback.telling(attempt), limits, "feedback", trial)
        if (broken := broken_off(reply)) is not None:
            return latest(outcome, broken)
        if stands(reply.text):
            break
        told += [attempt, (feedback.cue, reply.text)]
        reply = yield think(question, refine.telling(*told), limits, "refine", trial + 1)
        outcome = latest(outcome, concluded(reply))
    return outcome


def self_refine_lines(demonstration: Demonstration) -> tuple[Line, ...]:
    """A demonstration is right at once: its chain of thought, and feedback that says so."""
    return (*cot_lines(demonstration), Line(f" {STANDS}"))
