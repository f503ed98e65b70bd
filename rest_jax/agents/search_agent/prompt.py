"""The search agent's prompts: each of its five steps opens a transcript of its own, written as Python code.

    \"\"\"Choose the next action …\"\"\"
    (class definitions and worked examples: left out of a bare prompt)
    ORIGINAL_QUESTION: str = 'Who …?'
    PAST_ACTIONS: List[Action] = [
        Search(query='…', thoughts='…'),
        SelectLink(selected_links=[ResultItem(…)], grounded_summarization='…', thoughts='…'),
    ]
    REMAINING_SEARCHES: int = 9
    ORIGINAL_QUESTION: str = 'Who …?'

The model goes on with `ACTION_SELECTED = … # [END]`. Fields and their order are those of Aksitov et al. 2023, A.1; so
are, at most, the numbers of worked examples. All words are our own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby

from rest_jax.agents.search_agent.grammar import Piece, literal, write
from rest_jax.agents.search_agent.values import Action, ResultItem, SearchResult, Step
from rest_jax.core.chat import ChatFormat
from rest_jax.core.transcript import Segment, Source, Transcript

TARGET = "ACTION_SELECTED"
END = "# [END]"
"""What ends a reply, beside an end-of-sequence token."""
RESULTS = "CURRENT_SEARCH_RESULTS"
RULE = "#" * 25
"""The line that frames the head of an example; no other text holds it."""


@dataclass(frozen=True)
class View:
    """What a step is shown. A field that is None is not one of this step's."""

    question: str
    past: tuple[Action, ...] = ()
    remaining: int | None = None
    results: tuple[ResultItem, ...] | None = None
    answer: str | None = None

    def after(self, action: Action) -> View:
        """The view once this action is past."""
        return replace(self, past=(*self.past, action))


def written(view: View) -> Iterator[Piece]:
    """The fields of a step's prompt."""
    asked = (
        (Source.PROMPT, "ORIGINAL_QUESTION: str = "),
        (Source.QUOTE, literal(view.question)),
        (Source.PROMPT, "\n"),
    )
    yield from asked
    yield Source.PROMPT, "PAST_ACTIONS: List[Action] = ["
    for action in view.past:
        yield Source.PROMPT, "\n    "
        yield from write(action)
        yield Source.PROMPT, ","
    yield Source.PROMPT, "\n]\n" if view.past else "]\n"
    if view.remaining is not None:
        yield Source.PROMPT, f"REMAINING_SEARCHES: int = {view.remaining}\n"
    if view.results is not None:
        yield Source.PROMPT, f"{RESULTS} = "
        yield from write(SearchResult(view.results))
        yield Source.PROMPT, "\n"
    yield from asked
    if view.answer is not None:
        yield Source.PROMPT, "ANSWER: str = "
        yield Source.QUOTE, literal(view.answer)
        yield Source.PROMPT, "\n"


@dataclass(frozen=True)
class StepPrompts:
    """How the transcripts of the five steps open.

    Class definitions and worked examples are marked `shots`, so that a *bare* training example leaves them out: exactly
    the transcript of the bare prompt remains, segment by segment. The line that says what a step is for stays, because
    it alone tells some of them apart.
    """

    tasks: Mapping[Step, str]
    """What each step is for, in a sentence."""
    shown: Mapping[Step, str] = field(default_factory=dict)
    """Each step's class definitions and worked examples; empty when bare."""
    chat: ChatFormat | None = None
    """The model's chat turns, which then hold a prompt as the user's and a reply as the model's; None: the style
    `base`."""
    asks: tuple[str, ...] = ()
    """The questions of the stories that the worked examples are of."""

    stop = (END,)
    ends_every_turn = True
    """Every call ends its transcript, so a demonstrated reply ends with an end-of-sequence token."""

    def open(self, step: Step, view: View) -> Transcript:
        """The transcript that asks for a step's reply."""
        transcript = self._begun(step)
        for source, pieces in groupby(written(view), key=lambda piece: piece[0]):
            text = "".join(text for _, text in pieces)
            if source is Source.PROMPT:
                transcript = transcript.prompted(text)
            else:
                transcript = transcript.observed(text) if source is Source.TOOL else transcript.quoted(text)
        return transcript if self.chat is None else transcript.prompted(self.chat.user[1] + self.chat.assistant[0])

    @property
    def beginnings(self) -> tuple[tuple[Segment, ...], ...]:
        """What the transcripts of each step open with, where there are class definitions and worked examples."""
        return tuple(self._begun(step).segments for step in self.shown)

    def step_of(self, context: str) -> Step:
        """The step that asked for what follows this text. ValueError for another's text."""
        for step, task in self.tasks.items():
            if _docstring(task) in context:
                return step
        raise ValueError("the text is of none of the search agent's steps")

    def _begun(self, step: Step) -> Transcript:
        before = "" if self.chat is None else self.chat.begin + self.chat.user[0]
        transcript = Transcript().prompted(before + _docstring(self.tasks[step]))
        return transcript.prompted(self.shown.get(step, ""), shots=True)


def _docstring(task: str) -> str:
    return f'"""{task}"""\n'
