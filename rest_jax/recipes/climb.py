"""Improve until it is no better (ReST, Algorithm 1): which of several policies in a row is the best so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

P = TypeVar("P")


@dataclass(frozen=True)
class Round:
    """One attempt: which threshold's it is, and the how many-th at it; both count from 1."""

    step: int
    number: int

    @property
    def label(self) -> str:
        """`2` of the first round at the second threshold, `2-round-3` of its third."""
        return str(self.step) if self.number == 1 else f"{self.step}-round-{self.number}"


START = Round(0, 1)
"""The policy before any Improve."""


@dataclass(frozen=True)
class Climbed(Generic[P]):
    """The best policy on a way up."""

    policy: P
    made_by: int
    """The step that made it; 0: it is the start, nothing was better."""
    kept: int
    """How many improvements lie between the start and it."""


def climbed(
    start: P, steps: int, rounds: int, improve: Callable[[P, Round], P], score: Callable[[P, Round], float]
) -> Climbed[P]:
    """The best policy on the way up.

    Each step improves the best policy so far, up to `rounds` times while the score strictly rises; what is no better
    is left behind, and the next step begins. At most `steps` × `rounds` policies are made.
    """
    best, best_score = Climbed(start, 0, 0), score(start, START)
    for step in range(1, steps + 1):
        for number in range(1, rounds + 1):
            attempt = Round(step, number)
            candidate = improve(best.policy, attempt)
            reached = score(candidate, attempt)
            if reached <= best_score:
                break
            best, best_score = Climbed(candidate, step, best.kept + 1), reached
    return best
