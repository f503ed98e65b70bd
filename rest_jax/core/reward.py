"""A reward: a number in [0, 1] for a trajectory, or None when there is nothing to judge."""

from __future__ import annotations

from typing import Protocol

from rest_jax.core.trajectory import Question, Trajectory


class Reward(Protocol):
    def __call__(self, trajectory: Trajectory, question: Question) -> float | None:
        """In [0, 1]; None masks the trajectory (an infrastructure failure is never a reward of 0)."""
        ...
