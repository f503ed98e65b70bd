"""Attempts that know nothing of one another, and what most of them answer: self-consistency (Wang et al. 2023) for any
attempt. It is the control of methods that mend theirs: as many attempts as Self-Refine may make.
"""

from __future__ import annotations

from rest_jax.agents.attempt import Run, attempted
from rest_jax.agents.demonstration import Lines
from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import Prompt
from rest_jax.agents.reflexion import RESAMPLING
from rest_jax.agents.self_refine import ROUNDS
from rest_jax.core.answers import majority
from rest_jax.core.effects import Agent, Outcome
from rest_jax.core.trajectory import Question

ATTEMPTS = 1 + ROUNDS


def parallel(attempt: Run) -> Run:
    """An agent that attempts a question several times, whatever comes of it; the outcome is the first attempt's that
    gives the answer of most, as the task compares answers, or the first of all where none answers. All are drawn at
    temperature 0.7, whatever the run's own sampling is: greedily they would be one attempt."""

    def run(question: Question, prompt: Prompt, limits: Limits) -> Agent:
        outcomes = list[Outcome]()
        for trial in range(ATTEMPTS):
            another = attempt(question, prompt, limits)
            tried = yield from attempted(another, trial, prompt.cue, limits, sampling=RESAMPLING)
            if tried.outcome.status.is_masked:  # a vote of the others would be another method's
                return tried.outcome
            outcomes.append(tried.outcome)
        vote = majority([outcome.answer for outcome in outcomes], limits.voice)
        return outcomes[0 if vote is None else vote.first]

    return run


def each_time(lines: Lines) -> Lines:
    """A demonstration says the same in every attempt."""
    return lambda demonstration: lines(demonstration) * ATTEMPTS
