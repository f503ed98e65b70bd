"""Lanes of requests, and where a lane's transcript is cached: in a row, or parked. Plain Python, no jax."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from rest_jax.core.policy import Request, ScoreRequest
from rest_jax.sampling.beginnings import NO_BEGINNING, Beginning


@dataclass(eq=False)
class Slot:
    """One cache row of one pool. A free slot keeps its content until it is taken again."""

    width: int
    row: int
    ids: tuple[int, ...] = ()
    """The ids whose keys and values are cached and belong to a transcript, from the end of its shared beginning."""
    beginning: Beginning = NO_BEGINNING
    """What the transcript has before them, kept elsewhere for all rows."""
    fresh: tuple[int, ...] = ()
    """The fingerprints (`chunks.fingerprints`) of the leading whole chunks that were computed from scratch."""
    lane: Lane | None = None
    """Whose row it is; None when it is free."""


@dataclass(eq=False)
class Parked:
    """What a row held before it was given away; the fields are a slot's."""

    width: int
    ids: tuple[int, ...]
    beginning: Beginning
    fresh: tuple[int, ...]
    content: Any = None
    """Keys and values, put here by who carries out the copy. They are freed with this object, so nobody keeps count."""


@dataclass(eq=False)
class Lane:
    """One request after the other on one transcript."""

    queue: deque[Job] = field(default_factory=deque)
    running: Job | None = None
    home: Slot | Parked | None = None
    """Where the transcript is cached; while a request runs, a slot."""
    since: int = 0
    """When its last request ended."""

    @property
    def load(self) -> int:
        return len(self.queue) + (self.running is not None)

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
    twin: Lane | None
    """The lane of an earlier request with the same ids, whose beginning is copied when that one starts."""
    width: int = 0
    """The cache width that it runs in; 0 until the transcript that it continues is known."""

    @property
    def ids(self) -> tuple[int, ...]:
        """The request's, from the end of its beginning."""
        return self.request.ids[len(self.beginning.ids) :]


def reusable(home: Slot | Parked | None, beginning: Beginning, ids: tuple[int, ...]) -> int:
    """How many tokens of a transcript after its beginning are cached there: all that can be when the one continues
    the other, else none."""
    if home is None or home.beginning != beginning:
        return 0
    shared = min(len(home.ids), len(ids) - 1)
    return shared if home.ids[:shared] == ids[:shared] else 0
