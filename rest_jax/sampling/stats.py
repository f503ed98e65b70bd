"""What an engine has done, in numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass


@dataclass
class Stats:
    """What the engine has done so far."""

    prefilled: int = 0
    """Tokens run through prefill, extend and score (without padding)."""
    decoded: int = 0
    """Tokens sampled."""
    blocks: int = 0
    row_steps: int = 0
    """Rows × steps of all blocks; less `decoded` it is what waiting, free and frozen rows wasted."""
    seconds: float = 0.0
    """Wall time inside `step`; engines side by side spend theirs at once."""
    parks: int = 0
    """Rows copied out, so that other requests could have them."""
    unparks: int = 0
    """Rows copied back."""
    copies: int = 0
    """Rows copied to other rows: samples and candidates of one context, whole chunks that contexts have in common,
    transcripts that outgrew their width."""
    copied_bytes: int = 0
    """Of parks, unparks and copies together."""
    copy_seconds: float = 0.0
    """Wall time of parks, unparks and copies: 0 unless the engine was told to `time_copies`. A copy is dispatched and
    runs beside the host's work; its time is known only to who waits for it, which costs that overlap."""

    @property
    def occupancy(self) -> float:
        """The share of row steps that sampled a token; NaN before the first block."""
        return self.decoded / self.row_steps if self.row_steps else math.nan

    def since(self, before: Stats) -> Stats:
        """What was done between two looks."""
        return Stats(*(now - then for now, then in zip(astuple(self), astuple(before), strict=True)))


def together(stats: Iterable[Stats]) -> Stats:
    """What several engines have done."""
    return Stats(*map(sum, zip(*map(astuple, stats), strict=True)))
