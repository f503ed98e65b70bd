"""Links: what a search found, as the search agent counts and shows it."""

from __future__ import annotations

from rest_jax.agents.limits import cut
from rest_jax.agents.search_agent.values import ResultItem
from rest_jax.core.effects import NOT_FOUND, ToolReply, passages


def links_of(reply: ToolReply, first: int, chars: int) -> tuple[ResultItem, ...]:
    """The links of a search's reply, numbered from `first`, their texts on one line and cut at `chars` characters.

    A tool that gives no list of passages has its content for one link. A search that failed found none.
    """
    if reply.fault is not None:
        return ()
    found = passages(reply.data)
    if found is None:
        found = [] if reply.content.startswith(NOT_FOUND) else [("", reply.content)]
    shown = [(_line(title, chars), _line(text, chars)) for title, text in found]
    return tuple(ResultItem(first + at, *words) for at, words in enumerate(filter(any, shown)))


def _line(text: str, chars: int) -> str:
    return cut(" ".join(text.split()), chars)
