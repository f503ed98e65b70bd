"""CRITIC: an answer is checked with a tool, then corrected (Gou et al. 2024, algorithm 1), at most three times.

attempt → criticise ⇄ search → correct ─┐
             ↑                          │ until two rounds in a row end with one answer
             └──────────────────────────┘
"""

from __future__ import annotations

from collections.abc import Generator, Hashable
from dataclasses import replace
from typing import Any

from rest_jax.agents.actions import Search, parse_action
from rest_jax.agents.attempt import Run, attempted
from rest_jax.agents.attempts import latest
from rest_jax.agents.cot import cot_lines
from rest_jax.agents.demonstration import Lines
from rest_jax.agents.endings import broken_off, failed
from rest_jax.agents.gates import Gate
from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import OBSERVATION, Line, Prompt, Told
from rest_jax.agents.react import react_lines, shown
from rest_jax.core.demonstration import Demonstration
from rest_jax.core.effects import Agent, CallTool, Effect, Finish, Generate, Outcome
from rest_jax.core.trajectory import Question

ROUNDS = 3
"""Corrections at most (section 4.1)."""
RIGHT = Line(" The answer is right.")


def critic(attempt: Run, *, searching: bool = False, showing: bool = True, gate: Gate | None = None) -> Run:
    """An agent that criticises its attempt and corrects it; the answer is the last one that was given.

    `searching`: a critique may call `search`, at most `agent.turns` turns a round; else it is one turn, from memory.
    `showing`: it is told what tools showed in the attempt (a program's output, section 4.2). Without either it is the
    paper's row "w/o Tool". With the gate `gold` wrong answers alone are corrected, until one is right, whatever rounds
    agree: the row CRITIC*.
    """

    def run(question: Question, prompt: Prompt, limits: Limits) -> Agent:
        criticise, correct = prompt.beside["criticise"], prompt.beside["correct"]
        turns = limits.turns if searching else 1
        tried = yield from attempted(attempt(question, prompt, limits), 0, prompt.cue, limits)
        outcome, known, ended = tried.outcome, tried, list[Hashable]()
        for trial in range(1, ROUNDS + 1):
            if tried.broken:
                break
            known = replace(known, trial=trial, outcome=outcome)
            if gate is None and len(ended) > 1 and ended[-1] == ended[-2]:
                break
            if gate is not None and (passed := (yield from gate(question, prompt, limits, known))) is not None:
                return passed
            about = known.told if showing else known.said
            critique = yield from _criticised(question, criticise.telling(*about), replace(limits, turns=turns), trial)
            if isinstance(critique, Outcome):
                return latest(outcome, critique)
            corrected = attempt(question, correct.telling(*about, *critique), limits)
            tried = yield from attempted(corrected, trial, correct.cue, limits, step="correct")
            if tried.outcome.answer is not None:  # else the next round is about the latest attempt that had one
                known = tried
            outcome = latest(outcome, tried.outcome)
            ended.append(limits.voice(outcome.answer or ""))
        return outcome

    return run


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
        if (outcome := failed(result)) is not None:
            return outcome
        told.append((OBSERVATION, shown(result, limits)))
        transcript = prompt.observe(transcript.said(reply), told[-1][1], closed=reply.finish is Finish.EOS)
    return tuple(told)


def critic_lines(demonstration: Demonstration) -> tuple[Line, ...]:
    """A demonstration's chain of thought; then twice its searches, which find nothing wrong, and the chain again."""
    searches = tuple(line for line in react_lines(demonstration) if isinstance(parse_action(line.said), Search))
    return confirmed(cot_lines, searches)(demonstration)


def confirmed(lines: Lines, looking: tuple[Line, ...] = ()) -> Lines:
    """A demonstration's attempt; then twice a critique that looks so and finds nothing wrong, and the attempt."""
    return lambda demonstration: (*lines(demonstration), *(*looking, RIGHT, *lines(demonstration)) * 2)
