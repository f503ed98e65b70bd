"""Closed book: the answer straight from the model's memory, a floor for every agent that searches (ReAct's Standard,
Yao et al. 2023, section 3.2)."""

from __future__ import annotations

from rest_jax.agents.endings import broken_off
from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import Line, Prompt
from rest_jax.core.demonstration import Demonstration
from rest_jax.core.effects import Agent, Finish, Generate, Status, finished, stopped
from rest_jax.core.trajectory import Question

CUE = "Answer:"


def closed_book(question: Question, prompt: Prompt, limits: Limits) -> Agent:
    """Answer in one line, in one call of step `answer`; no tool is called."""
    reply = yield Generate(prompt.open(question.text), step="answer", max_tokens=limits.turn_tokens, stop=prompt.stop)
    if (outcome := broken_off(reply)) is not None:
        return outcome
    if reply.finish is Finish.LENGTH:
        return stopped(Status.TOKEN_LIMIT, "the answer's tokens were used up")
    answer = reply.text.strip()
    return finished(answer) if answer else stopped(Status.MALFORMED, "an empty answer")


def closed_book_lines(demonstration: Demonstration) -> tuple[Line, ...]:
    """A demonstration without its searches: the answer alone."""
    return (Line(f" {demonstration.question.answer}"),)
