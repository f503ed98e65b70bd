"""CRITIC on toxicity: a continuation is judged, rewritten, and kept where it is better (Gou et al. 2024, section 4.3).

continue → judge ─ good enough → the text
             ↑  └─ else rewrite ─┐
             └───────────────────┘  at most 4 times

A tool judges, or in its place the model itself. What the tool scores is what the agent is optimised for, so what is
reported has to be another scorer's: the task's metric.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from rest_jax.agents.attempt import Run
from rest_jax.agents.attempts import stands
from rest_jax.agents.cot import think
from rest_jax.agents.endings import broken_off, failed, malformed
from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import Line, Prompt
from rest_jax.core.demonstration import Demonstration
from rest_jax.core.effects import Agent, CallTool, Effect, Generate, Generated, Outcome, Status, finished, stopped
from rest_jax.core.trajectory import Question

CUE = "Continuation:"
FEEDBACK = "Feedback:"
TOOL = "toxicity"
ROUNDS = 4
"""Rewritings at most."""
ENOUGH = 0.1
"""A text below this score is not rewritten."""


@dataclass(frozen=True)
class Judged:
    """A continuation, and what is said of it."""

    words: str
    said: str
    badness: float
    """Of two texts the one with less of it is kept."""
    enough: bool


Judge = Callable[[Question, Prompt, Limits, str, int], Generator[Effect, Any, Judged | Outcome]]
"""(…, the text, its trial) → what is said of it; an outcome where nothing can be."""


def detoxify(judge: Judge) -> Run:
    """An agent that continues a text, and rewrites that until the judge is content; the answer is the best it had."""

    def run(question: Question, prompt: Prompt, limits: Limits) -> Agent:
        best: Judged | None = None
        reply: Generated = yield _written(prompt, question, limits, "continue", 0)
        for trial in range(ROUNDS + 1):
            if (outcome := broken_off(reply)) is not None:
                return _ended(outcome, best)
            if words := " ".join(reply.text.split()):
                judged = yield from judge(question, prompt, limits, words, trial)
                if isinstance(judged, Outcome):
                    return _ended(judged, best)
                best = judged if best is None or judged.badness < best.badness else best
            if best is None:
                return malformed(reply, "an empty continuation")
            if best.enough or trial == ROUNDS:
                break
            rewriting = prompt.beside["rewrite"].telling((CUE, best.words), (FEEDBACK, best.said))
            reply = yield _written(rewriting, question, limits, "rewrite", trial + 1)
        assert best is not None
        return finished(best.words)

    return run


def by_tool(
    question: Question, prompt: Prompt, limits: Limits, words: str, trial: int
) -> Generator[Effect, Any, Judged | Outcome]:
    """The tool's score decides: a rewriting counts where it lowers that."""
    found = yield CallTool(TOOL, {"text": words})
    if found.fault is not None:
        return failed(found) or stopped(Status.MALFORMED, found.fault.message)
    return Judged(words, found.content, found.data["score"], found.data["score"] < ENOUGH)


def by_own_word(
    question: Question, prompt: Prompt, limits: Limits, words: str, trial: int
) -> Generator[Effect, Any, Judged | Outcome]:
    """The model's own word decides, and each rewriting counts; of the last one it is not asked, and one that it has
    no room to judge stands (the paper's row without a tool)."""
    if trial == ROUNDS:
        return Judged(words, "", -trial, True)
    feedback: Generated = yield think(question, prompt.beside["judge"].telling((CUE, words)), limits, "judge", trial)
    broken = broken_off(feedback)
    if broken is not None and broken.status.is_masked:
        return broken
    return Judged(words, feedback.text, -trial, broken is not None or stands(feedback.text))


def text_lines(demonstration: Demonstration) -> tuple[Line, ...]:
    """A demonstration's answer, as it stands."""
    return (Line(f" {' '.join(demonstration.turns[-1].argument.split())}"),)


def _ended(outcome: Outcome, best: Judged | None) -> Outcome:
    """What a continuation that came to this ends with: the best so far, unless it says nothing of the policy."""
    return outcome if best is None or outcome.status.is_masked else finished(best.words)


def _written(prompt: Prompt, question: Question, limits: Limits, step: str, trial: int) -> Generate:
    return Generate(prompt.open(question.text), step=step, max_tokens=limits.turn_tokens, stop=prompt.stop, trial=trial)
