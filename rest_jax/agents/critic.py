"""CRITIC: an answer is checked with a tool, then corrected (Gou et al. 2024, algorithm 1), at most three times.

think → criticise ⇄ search → correct ─┐
           ↑                          │ until two rounds in a row end with one answer
           └──────────────────────────┘
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from rest_jax.agents.actions import Search, parse_action
from rest_jax.agents.attempts import latest
from rest_jax.agents.cot import concluded, cot_lines, think
from rest_jax.agents.endings import broken_off
from rest_jax.agents.gates import Attempt, Gate, gold
from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import OBSERVATION, Line, Prompt, Told
from rest_jax.agents.react import react_lines, shown
from rest_jax.core.answers import normalise
from rest_jax.core.demonstration import Demonstration
from rest_jax.core.effects import Agent, CallTool, Effect, Finish, Generate, Outcome, Status, stopped
from rest_jax.core.trajectory import Question

ROUNDS = 3
"""Corrections at most (section 4.1)."""
RIGHT = Line(" The answer is right.")


def critic(question: Question, prompt: Prompt, limits: Limits) -> Agent:
    """Criticise with `search`, at most `agent.turns` turns a round; the answer is the last one that was given."""
    return (yield from _corrected(question, prompt, limits, limits.turns))


def critic_without_tool(question: Question, prompt: Prompt, limits: Limits) -> Agent:
    """The same without a tool: a critique is one turn, from memory (the paper's row "w/o Tool")."""
    return (yield from _corrected(question, prompt, limits, 1))


def critic_oracle(question: Question, prompt: Prompt, limits: Limits) -> Agent:
    """CRITIC that corrects wrong answers alone, until an oracle calls one right (the paper's row CRITIC*)."""
    return (yield from _corrected(question, prompt, limits, limits.turns, gold))


def _corrected(question: Question, prompt: Prompt, limits: Limits, turns: int, gate: Gate | None = None) -> Agent:
    criticise, correct = prompt.beside["criticise"], prompt.beside["correct"]
    reply = yield think(question, prompt, limits)
    outcome, attempt, ended = concluded(reply), (prompt.cue, reply.text), list[str]()
    for trial in range(1, ROUNDS + 1):
        if broken_off(reply) is not None:
            break
        agreed = len(ended) > 1 and ended[-1] == ended[-2]
        if agreed if gate is None else (yield from gate(question, prompt, limits, Attempt(trial, outcome))):
            break
        critique = yield from _criticised(question, criticise.telling(attempt), replace(limits, turns=turns), trial)
        if isinstance(critique, Outcome):
            return latest(outcome, critique)
        reply = yield think(question, correct.telling(attempt, *critique), limits, "correct", trial)
        corrected = concluded(reply)
        if corrected.answer is not None:  # else the next round is about the latest attempt that had one
            attempt = (prompt.cue, reply.text)
        outcome = latest(outcome, corrected)
        ended.append(normalise(outcome.answer or ""))
    return outcome


def _criticised(
    question: Question, prompt: Prompt, limits: Limits, trial: int
) -> Generator[Effect, Any, tuple[Told, ...] | Outcome]:
    """What is said of an attempt and what searches showed; an outcome where it cannot go on. A turn without a search
    ends it, and so does the last one that it may take."""
    transcript, told = prompt.open(question.text), list[Told]()
    for turn in range(1, limits.turns + 1):
        reply = yield Generate(
            transcript, step="criticise", max_tokens=limits.turn_tokens, stop=prompt.stop, trial=trial
        )
        if (broken := broken_off(reply)) is not None:
            return broken
        told.append((prompt.cue, reply.text))
        action = parse_action(reply.text)
        if not isinstance(action, Search) or turn == limits.turns:
            break
        result = yield CallTool("search", {"query": action.query})
        if result.fault is not None and result.fault.kind.is_infrastructure:
            return stopped(Status.TOOL_FAILURE, result.fault.message)
        told.append((OBSERVATION, shown(result, limits)))
        transcript = prompt.observe(transcript.said(reply), told[-1][1], closed=reply.finish is Finish.EOS)
    return tuple(told)


def critic_lines(demonstration: Demonstration) -> tuple[Line, ...]:
    """A demonstration's chain of thought; then twice its searches, which find nothing wrong, and the chain again."""
    chain = cot_lines(demonstration)
    searches = (line for line in react_lines(demonstration) if isinstance(parse_action(line.said), Search))
    return chain + (*searches, RIGHT, *chain) * 2


def critic_without_tool_lines(demonstration: Demonstration) -> tuple[Line, ...]:
    """The same without the searches."""
    chain = cot_lines(demonstration)
    return chain + (RIGHT, *chain) * 2
