"""Reflexion: try, and try again with what was learned from failing (Shinn et al. 2023, algorithm 1).

attempt → gate ─ good enough → the answer
   ↑        └─ else reflect ─┐
   └─── the last 3 lessons ──┘  at most 5 attempts
"""

from __future__ import annotations

from rest_jax.agents.attempt import Run, attempted
from rest_jax.agents.attempts import latest
from rest_jax.agents.cot import think
from rest_jax.agents.endings import broken_off
from rest_jax.agents.gates import Gate
from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import Prompt, Told
from rest_jax.core.effects import Agent, Sampling
from rest_jax.core.trajectory import Question

TRIALS = 5
"""Attempts at most: as many as the released HotpotQA runs have."""
MEMORY = 3
"""Lessons that an attempt is told, the latest (the paper's bound is 1 to 3)."""
LESSON = "Lesson of an earlier attempt:"
RESAMPLING = Sampling(temperature=0.7)


def reflexion(attempt: Run, gate: Gate, memory: int = MEMORY, sampling: Sampling | None = None) -> Run:
    """An agent that attempts a question until a gate lets an attempt pass, and tells each attempt what was learned from
    those before it. The outcome is the last attempt's. `sampling` is that of the attempts; None: the run's."""

    def run(question: Question, prompt: Prompt, limits: Limits) -> Agent:
        lessons, trial = list[Told](), 0
        while True:
            again = attempt(question, prompt.telling(*lessons), limits)
            tried = yield from attempted(again, trial, prompt.cue, limits, sampling=sampling)
            trial += 1
            if tried.outcome.status.is_masked or trial == TRIALS:
                return tried.outcome
            if (passed := (yield from gate(question, prompt, limits, tried))) is not None:
                return passed
            if memory:
                reflecting = prompt.beside["reflect"].telling(*tried.told)
                reply = yield think(question, reflecting, limits, "reflect", tried.trial)
                if (broken := broken_off(reply)) is not None:
                    return latest(tried.outcome, broken)
                lessons = [*lessons, (LESSON, reply.text)][-memory:]

    return run


def resample(attempt: Run, gate: Gate) -> Run:
    """Reflexion's control: as many attempts behind the same gate, with nothing learned. All are drawn at temperature
    0.7, whatever the run's own sampling is: greedily they would be one attempt."""
    return reflexion(attempt, gate, memory=0, sampling=RESAMPLING)
