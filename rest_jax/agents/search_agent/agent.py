"""The search agent as a state machine (Aksitov et al. 2023, section 2 and figure 2).

    decide ─ Search → the tool ─ summarise ─┐
      ↑  └ Terminate → draft → check_relevance → check_grounding → the answer
      └──────────────────────────────────────┘

Where the paper leaves something open, docs/search_agent.md says what is done here.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from functools import partial
from typing import Any

from rest_jax.agents.endings import Malformed, broken_off, failed, malformed
from rest_jax.agents.limits import Limits
from rest_jax.agents.search_agent.links import links_of
from rest_jax.agents.search_agent.prompt import StepPrompts, View
from rest_jax.agents.search_agent.replies import lowest_perplexity_that_reads, read_reply
from rest_jax.agents.search_agent.values import (
    CHECKS,
    ResultItem,
    Revise_Answer,
    SelectLink,
    Step,
    Terminate,
    plain,
)
from rest_jax.core.effects import Agent, CallTool, Effect, Generate, Outcome, finished
from rest_jax.core.trajectory import Question

NO_SEARCH_LEFT = "No searches remain."
"""The thought of a Terminate that nobody chose."""


class _Over(Exception):
    """The trajectory ends before it has an answer."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome


def search_agent(question: Question, prompt: StepPrompts, limits: Limits) -> Agent:
    """Answer a question by at most `limits.turns` searches, then check the answer twice.

    The outcome's answer is without its citations; `readings.py` finds them, and the draft, in the stored calls.
    """
    try:
        answer = yield from _answer(question.text, prompt, limits)
    except _Over as over:
        return over.outcome
    return finished(plain(answer))


def _answer(question: str, prompt: StepPrompts, limits: Limits) -> Generator[Effect, Any, str]:
    ask = partial(_ask, prompt, limits)
    view, links = View(question), 0
    for remaining in range(limits.turns, 0, -1):
        decided = yield from ask(Step.DECIDE, replace(view, remaining=remaining))
        action = replace(decided.action, thoughts=decided.thoughts)
        view = view.after(action)
        if isinstance(action, Terminate):
            break
        found = yield from _search(action.query, links + 1, limits)
        links += len(found)
        chosen = yield from ask(Step.SUMMARISE, replace(view, results=found))
        selected = tuple(link for link in found if link.link_id in chosen.selected_link_ids)
        view = view.after(SelectLink(selected, chosen.grounded_summarization, chosen.thoughts))
    else:
        view = view.after(Terminate(NO_SEARCH_LEFT))
    draft = yield from ask(Step.DRAFT, view)
    view, answer = view.after(draft), draft.answer
    for check in CHECKS:
        verdict = yield from ask(check, replace(view, answer=answer))
        if isinstance(verdict, Revise_Answer):
            answer = verdict.revised_answer
    return answer


def _ask(prompt: StepPrompts, limits: Limits, step: Step, view: View) -> Generator[Effect, Any, Any]:
    """A step's reply, read; one that cannot be read ends the trajectory."""
    read = partial(read_reply, step, links=view.results or ())
    reply = yield Generate(
        prompt.open(step, view),
        step=step.value,
        max_tokens=limits.turn_tokens,
        stop=prompt.stop,
        n=limits.candidates,
        choose=lowest_perplexity_that_reads(read),
    )
    if (outcome := broken_off(reply)) is not None:
        raise _Over(outcome)
    said = read(reply.text)
    if isinstance(said, Malformed):
        raise _Over(malformed(reply, f"{step.value}: {said.why}"))
    return said


def _search(query: str, first: int, limits: Limits) -> Generator[Effect, Any, tuple[ResultItem, ...]]:
    """What a search found, its links counted from `first`; a failing infrastructure ends the trajectory."""
    result = yield CallTool("search", {"query": query})
    if (outcome := failed(result)) is not None:
        raise _Over(outcome)
    return links_of(result, first, limits.observation_chars)
