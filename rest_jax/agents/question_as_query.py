"""Question as query: one search with the question's own words, then the answer; a floor for agents that choose."""

from __future__ import annotations

from rest_jax.agents.actions import action_text
from rest_jax.agents.endings import broken_off, failed
from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import Prompt
from rest_jax.agents.react import shown
from rest_jax.core.effects import Agent, CallTool, Finish, Generate, Status, finished, stopped
from rest_jax.core.trajectory import Question

ANSWER = " I answer from this. Action: Finish["


def question_as_query(question: Question, prompt: Prompt, limits: Limits) -> Agent:
    """ReAct's transcript with all but the answer written for the model: one search, one call of step `answer`."""
    result = yield CallTool("search", {"query": question.text})
    if (outcome := failed(result)) is not None:
        return outcome
    asked = prompt.open(question.text).quoted(f" I look it up. {action_text('search', question.text)}")
    told = prompt.observe(asked, shown(result, limits)).prompted(ANSWER)
    reply = yield Generate(told, step="answer", max_tokens=limits.turn_tokens, stop=("]", *prompt.stop))
    if (outcome := broken_off(reply)) is not None:
        return outcome
    answer = reply.text.strip()
    if reply.finish in (Finish.STOP, Finish.EOS) and answer:
        return finished(answer)
    return stopped(Status.MALFORMED, "no answer before the end of the turn")
