"""CoT-SC: the majority of several chains of thought (Wang et al. 2023), with ReAct's numbers (Yao et al. 2023, section
3.2)."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from rest_jax.agents.cot import answer_of, think, unanswered
from rest_jax.agents.endings import broken_off, spoiled
from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import Prompt
from rest_jax.core.answers import Voice, Vote, majority
from rest_jax.core.effects import Agent, Candidate, Effect, Generated, Outcome, Sampling, finished
from rest_jax.core.trajectory import Question

SAMPLES = 21
SAMPLING = Sampling(temperature=0.7)


@dataclass(frozen=True)
class Poll:
    """What several chains of thought say together."""

    outcome: Outcome
    agreed: int = 0
    """How many gave the outcome's answer."""


def cot_sc(question: Question, prompt: Prompt, limits: Limits) -> Agent:
    """The answer that most of 21 chains give, as the task compares answers; of equals the one given first. One call of
    step `think` holds them all, whatever the run's own sampling is."""
    return (yield from poll(question, prompt, limits)).outcome


def poll(question: Question, prompt: Prompt, limits: Limits) -> Generator[Effect, Any, Poll]:
    """Ask for the chains and count their answers; a chain without one has no voice."""
    asked = think(question, prompt, limits)
    reply: Generated = yield replace(asked, n=SAMPLES, choose=partial(majoritys_first, limits.voice), sampling=SAMPLING)
    if (outcome := spoiled(reply)) is not None:
        return Poll(outcome)
    vote = _vote(limits.voice, reply.candidates)
    if vote is None:
        return Poll(broken_off(reply) or unanswered(reply))
    return Poll(finished(answer_of(reply.candidates[vote.first]) or ""), vote.count)


def majoritys_first(voice: Voice, chains: Sequence[Candidate]) -> int:
    """The rule by which one chain stands for all, and is learned: the first that gives the majority's answer; the first
    of all where none gives any."""
    vote = _vote(voice, chains)
    return 0 if vote is None else vote.first


def _vote(voice: Voice, chains: Sequence[Candidate]) -> Vote | None:
    return majority([answer_of(chain) for chain in chains], voice)
