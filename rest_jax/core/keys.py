"""Where randomness comes from: a path of integers that names one token, and nothing else.

A token's random bits depend on (seed, generation, question, sample, trial, call, candidate, position) alone, so a
trajectory does not depend on its batch mates, its slot, the block size or the time.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class KeyPath:
    """Names a candidate; the sampler folds these integers, then the token's position, into a threefry key."""

    seed: int
    generation: int
    question_id: str
    sample: int
    trial: int
    call: int
    candidate: int

    def words(self) -> tuple[int, int, int, int, int, int, int, int]:
        """The path as eight uint32: seed, generation, the question id's sha256 (two words), sample, trial, call,
        candidate."""
        digest = hashlib.sha256(self.question_id.encode()).digest()
        high, low = int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:8], "big")
        return (
            self.seed & 0xFFFFFFFF,
            self.generation,
            high,
            low,
            self.sample,
            self.trial,
            self.call,
            self.candidate,
        )
