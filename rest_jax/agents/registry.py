"""The agents by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from typing import Literal

from rest_jax.agents import closed_book, question_as_query, react
from rest_jax.agents.demonstration import Lines, shot
from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import Prompt
from rest_jax.core.chat import ChatFormat
from rest_jax.core.demonstration import Demonstration
from rest_jax.core.effects import Agent
from rest_jax.core.errors import UserError
from rest_jax.core.trajectory import Question


@dataclass(frozen=True)
class Method:
    """An agent and how it is prompted."""

    name: str
    run: Callable[[Question, Prompt, Limits], Agent]
    instruction: str
    """The file in `prompts/` that tells a prompted model what to do."""
    cue: str
    lines: Lines
    tools: tuple[str, ...] = ()
    """The tools that it calls: an adapter without them would fail it, call by call, as by its own mistake."""

    def prompt(
        self, style: Literal["base", "chat"], shots: Sequence[Demonstration] = (), chat: ChatFormat | None = None
    ) -> Prompt:
        """The method's instruction and worked examples in this style; `Prompt.bare` leaves both out.

        Raises UserError when a model without a chat format is to chat.
        """
        if style == "chat" and chat is None:
            raise UserError("agent.style: the model has no chat template; write style: base")
        instruction = (files("rest_jax.agents") / "prompts" / self.instruction).read_text(encoding="utf-8").strip()
        worked = tuple(shot(demonstration, self.lines) for demonstration in shots)
        return Prompt(self.cue, instruction, worked, chat if style == "chat" else None)


_METHODS = (
    Method("react", react.react, "react.txt", react.CUE, react.react_lines, tools=("search", "lookup")),
    Method("closed_book", closed_book.closed_book, "closed_book.txt", closed_book.CUE, closed_book.closed_book_lines),
    Method(
        "question_as_query",
        question_as_query.question_as_query,
        "react.txt",
        react.CUE,
        react.react_lines,
        tools=("search",),
    ),
)
NAMES = tuple(method.name for method in _METHODS)


def agent(name: str) -> Method:
    """The method of this name. Raises UserError when there is none."""
    for method in _METHODS:
        if method.name == name:
            return method
    near = get_close_matches(name, NAMES, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(NAMES)}"
    raise UserError(f"agent.name: no agent called '{name}'; {hint}")
