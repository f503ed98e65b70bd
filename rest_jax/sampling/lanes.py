"""Sessions' lanes of requests, and where a lane's transcript is cached: in a row, or parked. Plain Python, no jax."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rest_jax.core.policy import Request, ScoreRequest
from rest_jax.sampling.beginnings import NO_BEGINNING, Beginning


class Mark(NamedTuple):
    """Stands for the leading `tokens` of a transcript after its beginning, which end with a chunk."""

    tokens: int
    fingerprint: int
    """A hash of all these ids, and of where the beginning before them lies."""


@dataclass(eq=False)
class Slot:
    """One cache row of one pool. A free slot keeps its content until it is taken again."""

    width: int
    row: int
    ids: tuple[int, ...] = ()
    """The ids whose keys and values are cached and belong to a transcript, from the end of its shared beginning."""
    beginning: Beginning = NO_BEGINNING
    """What the transcript has before them, kept elsewhere for all rows."""
    fresh: tuple[Mark, ...] = ()
    """Of the leading chunks (`chunks.marks`) that were computed from scratch."""
    lane: Lane | None = None
    """Whose row it is; None when it is free."""


@dataclass(eq=False)
class Parked:
    """What a row held before it was given away; the fields are a slot's."""

    width: int
    ids: tuple[int, ...]
    beginning: Beginning
    fresh: tuple[Mark, ...]
    content: Any = None
    """Keys and values, put here by who carries out the copy. They are freed with this object, so nobody keeps count."""


@dataclass(eq=False)
class Lane:
    """A session's requests, one after the other on one transcript, and those that run beside it."""

    queue: deque[Job] = field(default_factory=deque)
    beside: list[Lane] = field(default_factory=list)
    """Candidates of the call under way that run in rows of their own; each goes when its candidate has ended."""
    running: Job | None = None
    home: Slot | Parked | None = None
    """Where the transcript is cached; while a request runs, a slot."""
    since: int = 0
    """When its last request ended."""

    @property
    def busy(self) -> bool:
        return bool(self.queue or self.running or self.beside)

    def move(self, home: Slot | Parked | None) -> None:
        """The transcript is cached elsewhere from now on; the row that it had is free."""
        if isinstance(self.home, Slot):
            self.home.lane = None
        if isinstance(home, Slot):
            home.lane = self
        self.home = home


@dataclass(eq=False)
class Job:
    """A request in a lane's queue."""

    request: Request | ScoreRequest
    beginning: Beginning
    need: int
    """Tokens that its row must be able to hold, from the end of its beginning."""
    order: int
    """When it was submitted."""
    sibling: bool = False
    """Whether it is one of several requests with the same ids, such as the candidates of a call."""
    width: int = 0
    """The cache width that it runs in; 0 until the transcript that it continues is known."""

    @property
    def ids(self) -> tuple[int, ...]:
        """The request's, from the end of its beginning."""
        return self.request.ids[len(self.beginning.ids) :]

    def same_ids(self, other: Job) -> bool:
        return self.request.ids == other.request.ids


def reusable(home: Slot | Parked | None, beginning: Beginning, ids: tuple[int, ...]) -> int:
    """How many tokens of a transcript after its beginning are cached there: all that can be when the one continues
    the other, else none."""
    if home is None or home.beginning != beginning:
        return 0
    shared = min(len(home.ids), len(ids) - 1)
    return shared if home.ids[:shared] == ids[:shared] else 0
