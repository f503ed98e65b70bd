"""Text games as a task: a question names a game, and the answer is how it ended.

Which games these are is for the tools to say (docs/tools.md): `textworld` makes them from seeds, `alfworld` plays those
of one split of ALFWorld (Shridhar et al. 2021), whose 134 unseen ones are what papers report on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rest_jax.core.effects import WON
from rest_jax.core.trajectory import Question
from rest_jax.tasks.splits import Split
from rest_jax.tasks.task import Task

SIZES: Mapping[str, Mapping[Split, int]] = {
    "textworld": {Split.TRAIN: 40, Split.SELECT: 20, Split.REPORT: 40},
    "alfworld": {Split.REPORT: 134},
}
"""Games of each task, numbered through its splits from 0."""


def games(name: str) -> Task:
    """The task of this name, of `SIZES`."""
    return Task(
        name=name,
        corpus_file=None,
        splits=dict(_splits(name)),
        sources={},
        notes={"games": "those that tools.config serves; a game is right when it is won"},
    )


def _splits(name: str) -> Iterator[tuple[Split, tuple[Question, ...]]]:
    first = 0
    for split, size in SIZES[name].items():
        yield split, tuple(Question(f"{name}-{n:04d}", f"Game {n}", WON) for n in range(first, first + size))
        first += size
