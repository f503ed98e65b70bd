"""May a judge be believed? Its verdicts against people's labels, and what is told of one that may not."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from rest_jax.config.judges import BALANCED_ACCURACY, PAIRS


@dataclass(frozen=True)
class Spread:
    """Repeated measurements of one thing."""

    mean: float
    std: float
    """Sample standard deviation over the repetitions; NaN for fewer than two."""
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.std:.2f}" if self.n > 1 else f"{self.mean:.2f}"


@dataclass(frozen=True)
class Qualification:
    """How a judge did on labelled pairs, and what was asked of it."""

    pairs: int
    balanced_accuracy: float
    """NaN where the labels are all of one class: that proves nothing."""
    needed_pairs: int
    needed_accuracy: float

    @property
    def qualified(self) -> bool:
        return self.pairs >= self.needed_pairs and self.balanced_accuracy >= self.needed_accuracy

    def cell(self, value: object) -> str:
        """What a table says in the place of the judge's value: the value, with the gate where it asked for less than is
        its due, or why it does not count."""
        if self.qualified:
            lowered = self.needed_pairs < PAIRS or self.needed_accuracy < BALANCED_ACCURACY
            asked = f" (gate lowered to {self.needed_pairs} pairs, {self.needed_accuracy:g})"
            return f"{value}{asked if lowered else ''}"
        if self.pairs < self.needed_pairs:
            return f"not qualified ({self.pairs} of {self.needed_pairs} pairs)"
        if math.isnan(self.balanced_accuracy):
            return "not qualified (labels of one class)"
        return f"not qualified ({math.floor(100 * self.balanced_accuracy) / 100:.2f})"


@dataclass(frozen=True)
class Agreement:
    """How two measurements of the same things agree (of agents, for instance: by a judge, and by people)."""

    pearson: float
    spearman: float
    n: int


def balanced_accuracy(labels: Sequence[Hashable], verdicts: Sequence[Hashable | None]) -> float:
    """The mean over the labels' classes of the share that was told right; None is a verdict that could not be read,
    and wrong. NaN where there are fewer than two classes."""
    right: defaultdict[Hashable, list[bool]] = defaultdict(list)
    for label, verdict in zip(labels, verdicts, strict=True):
        right[label].append(verdict == label)
    return fmean(map(fmean, right.values())) if len(right) > 1 else math.nan


def agreement(given: Sequence[float], labels: Sequence[float]) -> Agreement:
    """Pearson's r and Spearman's rho (ties share their mean rank) of values against given labels; NaN for fewer than
    two, and where either side is constant."""
    if len(given) != len(labels):
        raise ValueError(f"{len(given)} values and {len(labels)} labels; there must be as many of both")
    if len(set(given)) < 2 or len(set(labels)) < 2:
        return Agreement(math.nan, math.nan, len(labels))
    return Agreement(_pearson(given, labels), _pearson(rankdata(given), rankdata(labels)), len(labels))


def over_repetitions(verdicts: Sequence[Sequence[bool | None]]) -> Spread:
    """verdicts[repetition][item] → the mean over repetitions of the share of yes, and its spread (Aksitov et al. 2023,
    section 4: ten). What could not be read (None) is in no share; a repetition of nothing else is left out."""
    shares = [fmean(known) for each in verdicts if (known := [v for v in each if v is not None])]
    mean = fmean(shares) if shares else math.nan
    return Spread(mean, stdev(shares) if len(shares) > 1 else math.nan, len(shares))


def _pearson(a: ArrayLike, b: ArrayLike) -> float:
    return float(np.corrcoef(np.asarray(a, float), np.asarray(b, float))[0, 1])
