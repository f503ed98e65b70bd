"""A method of one's own, whole: all that another one takes. It answers, and asks itself once whether it is sure."""

from __future__ import annotations

from rest_jax.agents.endings import broken_off
from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import Line, Prompt
from rest_jax.agents.registry import Method
from rest_jax.core.demonstration import Demonstration
from rest_jax.core.effects import Agent, Generate, Status, finished, stopped
from rest_jax.core.trajectory import Question

DOUBT = "Are you sure? Say it again, or better."


def second_thought(question: Question, prompt: Prompt, limits: Limits) -> Agent:
    """Two calls in one transcript, `answer` and `doubt`; the second one's words count."""
    transcript, answer = prompt.open(question.text), ""
    for step in ("answer", "doubt"):
        reply = yield Generate(transcript, step=step, max_tokens=limits.turn_tokens, stop=prompt.stop)
        if (outcome := broken_off(reply)) is not None:
            return outcome
        answer = reply.text.strip()
        transcript = prompt.observe(transcript.said(reply), DOUBT)
    return finished(answer) if answer else stopped(Status.MALFORMED, "an empty answer")


def lines(demonstration: Demonstration) -> tuple[Line, ...]:
    """The answer of a demonstration, twice."""
    answer = f" {demonstration.question.answer}"
    return (Line(answer, DOUBT), Line(answer))


METHOD = Method("second_thought", second_thought, "Answer each question in a few words.", "Answer:", lines)
