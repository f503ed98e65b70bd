"""Demonstrations (`core.demonstration`) as the search agent's steps, for a scripted policy."""

from __future__ import annotations

from collections.abc import Sequence

from rest_jax.agents.search_agent.grammar import code, read
from rest_jax.agents.search_agent.prompt import RESULTS, RULE, TARGET, StepPrompts
from rest_jax.agents.search_agent.values import (
    ActionWrapper,
    Answer,
    Check_Answer,
    LinkSelection,
    ResultItem,
    Search,
    SearchResult,
    SelectLink,
    Step,
    Terminate,
)
from rest_jax.core.demonstration import Demonstration, Turn
from rest_jax.core.policy import Request
from rest_jax.policies.scripted import Author

NOTHING = "Nothing is selected."


def author(demonstrations: Sequence[Demonstration], prompt: StepPrompts) -> Author:
    """An author for a scripted policy, who says at each step what the question's demonstration would.

    What a turn found is selected: the link with the title of the turn's observation, or else of its query, or else the
    first. The next turn's thought says what was learned from it. The answer cites the last link that was selected.
    Lookups are left out: this agent has none.
    """
    of = {demonstration.question.id: demonstration.turns for demonstration in demonstrations}

    def write(context: str, request: Request) -> tuple[str, bool]:
        *_, fields = context.split(f"{RULE}\n")
        return _said(prompt.step_of(context), fields, of[request.key.question_id]), True

    return write


def _said(step: Step, fields: str, turns: Sequence[Turn]) -> str:
    """What is said at a step whose prompt has these fields."""
    searches = [turn for turn in turns if turn.action == "search"]
    *_, finish = turns
    past = _selections(fields)
    if step is Step.DECIDE:
        left = searches[len(past) :]
        action = Search(left[0].argument) if left else Terminate()
        return f"{TARGET} = {code(ActionWrapper((left or [finish])[0].thought, action))}"
    if step is Step.SUMMARISE:
        done = len(past)
        learned = [*searches[1:], finish][done].thought
        return _selection(_results(fields), searches[done], learned)
    if step is Step.DRAFT:
        links = [link for selection in past for link in selection.selected_links]
        citation = f" [link_id={links[-1].link_id}]" if links else ""
        return f"{TARGET}: Answer = {code(Answer(finish.thought, finish.argument + citation))}"
    checked = "ANSWER says what is asked for" if step is Step.CHECK_RELEVANCE else "ANSWER stands in the selected links"
    return f"# {checked}.\n{TARGET}: Command = {code(Check_Answer(True))}"


def _selection(results: Sequence[ResultItem], turn: Turn, learned: str) -> str:
    """What is said of a search's results."""
    shown = (turn.observation or f"{turn.argument}: ").casefold()
    wanted = [link for link in results if shown.startswith(f"{link.link_text.casefold()}: ")]
    chosen = (wanted or list(results))[:1]
    comments = [
        f"# [link_id={link.link_id}] is about {_one_line(link.link_text)}. {verdict}.\n"
        for link in results
        for verdict in ("Selected" if link in chosen else "Not selected",)
    ]
    summary = f"According to [link_id={chosen[0].link_id}]: {learned}" if chosen else NOTHING
    selection = LinkSelection(summary, turn.thought, tuple(link.link_id for link in chosen))
    return f"{''.join(comments)}{TARGET}: LinkSelection = {code(selection)}"


def _one_line(title: str) -> str:
    """A title as a comment may hold it: it neither ends the line nor says what ends a reply."""
    return " ".join(title.replace("#", "").split())


def _selections(fields: str) -> list[SelectLink]:
    """The selections among a prompt's past actions."""
    lines = (line.strip().removesuffix(",") for line in fields.split("\n") if line.startswith("    SelectLink("))
    return [found for line in lines if isinstance(found := read(line, SelectLink), SelectLink)]


def _results(fields: str) -> tuple[ResultItem, ...]:
    """The links that a prompt shows; none where it shows none."""
    for line in fields.split("\n"):
        if line.startswith(f"{RESULTS} = ") and isinstance(found := read(line, SearchResult, RESULTS), SearchResult):
            return found.links
    return ()
