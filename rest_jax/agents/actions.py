"""The grammar of a ReAct turn: `thought Action: Search[words]`, or Lookup[word], or Finish[answer]."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rest_jax.agents.endings import Malformed

# No two neighbouring parts can match the same character, so matching takes linear time on any text.
_ACTION = re.compile(r"\baction:\s*(\w+)\s*\[", re.IGNORECASE)


@dataclass(frozen=True)
class Search:
    query: str


@dataclass(frozen=True)
class Lookup:
    keyword: str


@dataclass(frozen=True)
class Finish:
    answer: str


Action = Search | Lookup | Finish | Malformed

_VERBS: dict[str, type[Search] | type[Lookup] | type[Finish]] = {"search": Search, "lookup": Lookup, "finish": Finish}


def parse_action(text: str) -> Action:
    """The action of a turn: the first `Action: Verb[argument]`, with nothing but white space after it.

    The verb's case and the white space around its parts do not matter. The argument ends at the bracket that balances
    the first one, or at the last bracket of the text when none does. Text after the action makes a turn malformed: a
    turn is one step, and what a model imagines after it must not be learned.
    """
    found = _ACTION.search(text)
    if found is None:
        return Malformed("no action of the form Action: Verb[argument]")
    kind = _VERBS.get(found[1].lower())
    if kind is None:
        return Malformed(f"unknown action {found[1]!r}; known are Search, Lookup and Finish")
    rest = text[found.end() :]
    end = _closing(rest)
    if end is None:
        return Malformed("the action's bracket is never closed")
    if rest[end + 1 :].strip():
        return Malformed("text after the action")
    argument = rest[:end].strip()
    return kind(argument) if argument else Malformed(f"{found[1].capitalize()} with nothing in its brackets")


def thought_and_action(text: str) -> tuple[str, str]:
    """A turn cut where its action begins; a turn without one is all thought."""
    found = _ACTION.search(text)
    at = len(text) if found is None else found.start()
    return text[:at].strip(), text[at:].strip()


def action_text(verb: str, argument: str) -> str:
    """An action as a turn writes it; `verb` is search, lookup or finish in any case."""
    return f"Action: {verb.capitalize()}[{argument}]"


def _closing(rest: str) -> int | None:
    """Where the bracket closes that was opened just before `rest`."""
    depth = 1
    for at, character in enumerate(rest):
        depth += (character == "[") - (character == "]")
        if depth == 0:
            return at
    last = rest.rfind("]")
    return None if last < 0 else last
