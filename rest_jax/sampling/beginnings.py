"""Beginnings that transcripts share, such as worked examples: computed once, kept once. Plain Python, no jax."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rest_jax.core.errors import UserError


@dataclass(frozen=True)
class Beginning:
    """Ids that transcripts begin with, and where their keys and values lie among all shared ones."""

    ids: tuple[int, ...]
    start: int


NO_BEGINNING = Beginning((), 0)


def laid_out(beginnings: Iterable[Sequence[int]], room: int) -> tuple[Beginning, ...]:
    """Beginnings side by side in `room` tokens. Raises UserError when they need more."""
    placed: list[Beginning] = []
    start = 0
    for ids in dict.fromkeys(map(tuple, beginnings)):
        placed.append(Beginning(ids, start))
        start += len(ids)
    if start > room:
        raise UserError(
            f"engine.shared is {room}, but the beginnings that transcripts share have {start} tokens; set it to "
            f"{start} or more, or to 0 to keep them in every row"
        )
    return tuple(placed)


def beginning_of(ids: Sequence[int], beginnings: Iterable[Beginning]) -> Beginning:
    """The longest of the beginnings after which some of `ids` are left."""
    fitting = (one for one in beginnings if len(one.ids) < len(ids) and tuple(ids[: len(one.ids)]) == one.ids)
    return max(fitting, key=lambda one: len(one.ids), default=NO_BEGINNING)
