"""Several rewards of the same trajectories as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

from rest_jax.core.errors import UserError


@dataclass(frozen=True)
class Part:
    """A reward's weight in the whole, and its scale: `low` becomes 0 and `high` 1, what lies beyond is cut off.

    The scale is declared, not taken from the rewards at hand: a threshold means the same in each generation.
    """

    weight: float = 1.0
    low: float = 0.0
    high: float = 1.0

    def normalised(self, reward: float) -> float:
        return min(1.0, max(0.0, (reward - self.low) / (self.high - self.low)))


def combined(rewards: Sequence[float | None], parts: Sequence[Part]) -> float | None:
    """The weighted mean, in [0, 1], of one trajectory's rewards; None as soon as one of them is: it is masked.

    Raises UserError for parts without weight or scale.
    """
    if any(part.weight < 0 or part.high <= part.low for part in parts) or not fsum(part.weight for part in parts):
        raise UserError("combined rewards: weights are positive and each scale rises; correct weight, low and high")
    if any(reward is None for reward in rewards):
        return None
    pairs = [(reward, part) for reward, part in zip(rewards, parts, strict=True) if reward is not None]
    return fsum(part.weight * part.normalised(reward) for reward, part in pairs) / fsum(part.weight for part in parts)
