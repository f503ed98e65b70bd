"""Self-Refine: an answer, feedback on it, a better answer (Madaan et al. 2023, algorithm 1). One model plays all parts.

attempt → feedback ─ it stands → the answer
             ↑  └─ else refine ─┐
             └──────────────────┘  at most 4 times
"""

from __future__ import annotations

from rest_jax.agents.attempt import Run, attempted
from rest_jax.agents.attempts import latest, stands
from rest_jax.agents.cot import think
from rest_jax.agents.endings import broken_off
from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import Prompt, Told
from rest_jax.core.effects import Agent
from rest_jax.core.trajectory import Question

ROUNDS = 4
"""Refinements at most (section 3)."""


def self_refine(attempt: Run) -> Run:
    """An agent that refines its attempt until feedback finds nothing wrong; the answer is the last one that was given.

    Feedback sees the latest attempt alone, a refinement all attempts and what was said of them. What tools show in an
    attempt is told to neither: the method has none.
    """

    def run(question: Question, prompt: Prompt, limits: Limits) -> Agent:
        feedback, refine = prompt.beside["feedback"], prompt.beside["refine"]
        tried = yield from attempted(attempt(question, prompt, limits), 0, prompt.cue, limits)
        outcome, told = tried.outcome, list[Told]()
        for trial in range(ROUNDS):
            if tried.broken:
                break
            reply = yield think(question, feedback.telling(*tried.said), limits, "feedback", trial)
            if (broken := broken_off(reply)) is not None:
                return latest(outcome, broken)
            if stands(reply.text):
                break
            told += [*tried.said, (feedback.cue, reply.text)]
            refined = attempt(question, refine.telling(*told), limits)
            tried = yield from attempted(refined, trial + 1, refine.cue, limits, step="refine")
            outcome = latest(outcome, tried.outcome)
        return outcome

    return run
