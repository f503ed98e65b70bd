"""Replies of the search agent's model: how they are read, and which of several candidates is taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rest_jax.agents.endings import Malformed
from rest_jax.agents.search_agent.grammar import read
from rest_jax.agents.search_agent.prompt import TARGET
from rest_jax.agents.search_agent.values import (
    ActionWrapper,
    Answer,
    Check_Answer,
    LinkSelection,
    ResultItem,
    Revise_Answer,
    Step,
    plain,
)
from rest_jax.core.effects import Candidate, Choose, Finish, Rule, choose

KINDS: dict[Step, Any] = {
    Step.DECIDE: ActionWrapper,
    Step.SUMMARISE: LinkSelection,
    Step.DRAFT: Answer,
    Step.CHECK_RELEVANCE: Check_Answer | Revise_Answer,
    Step.CHECK_GROUNDING: Check_Answer | Revise_Answer,
}
"""What each step's model is to say."""


def read_reply(step: Step, text: str, links: Sequence[ResultItem] = ()) -> Any:
    """What a step's model said, of the step's kind, or why it cannot be read (`Malformed`).

    `links` are those that a selection may name.
    """
    said = read(text, KINDS[step], TARGET)
    match said:
        case LinkSelection(selected_link_ids=ids):
            if unknown := sorted(set(ids) - {link.link_id for link in links}):
                return Malformed(f"link {unknown[0]} is not among the results")
        case Answer(answer=answer) | Revise_Answer(revised_answer=answer):
            if not plain(answer):
                return Malformed("an answer of citations alone")
    return said


def lowest_perplexity_that_reads(read_text: Callable[[str], Any]) -> Rule:
    """The rule by which a step's reply is chosen: the lowest perplexity per token (ReST meets ReAct, section 3.2) among
    the candidates that can be read, or among all where none can. What becomes of malformed ones the paper does not
    say."""

    def reads(candidate: Candidate) -> bool:
        whole = candidate.finish not in (Finish.CONTEXT, Finish.NONFINITE)
        return whole and not isinstance(read_text(candidate.text), Malformed)

    def rule(candidates: Sequence[Candidate]) -> int:
        eligible = [at for at, candidate in enumerate(candidates) if reads(candidate)] or range(len(candidates))
        return eligible[choose([candidates[at] for at in eligible], Choose.LOWEST_PERPLEXITY)]

    return rule
