"""What the things of a PDDL game are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

PLACED = "_bar_"


def plain_names(ids: Iterable[str]) -> dict[str, str]:
    """The name of each thing by its id: `mug 2` for one of the mugs, mug_bar__plus_01_dot_50_bar__minus_02_dot_00.

    An id tells a thing's kind, and where it lies; things of a kind are numbered against the order of their ids, a
    sink's basin as a kind of its own. So ALFWorld numbers them (`Demangler` of its package), and its walkthroughs do.
    An id that tells no place is a name already.
    """
    names = {id: id for id in ids}
    placed = sorted(id for id in names if PLACED in id)
    left = Counter(map(_kind, placed))
    for id in placed:
        kind = _kind(id)
        names[id] = f"{kind} {left[kind]}"
        left[kind] -= 1
    return names


def _kind(id: str) -> str:
    kind, _, _ = id.partition(PLACED)
    return f"{kind}basin" if "basin" in id else kind
