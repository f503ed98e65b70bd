"""Intervals and comparisons by the bootstrap over questions and, of rows that have enough of them, seeds.

Trajectories of one question are not independent, nor are those of one seed, which share all that their training came
to. So trajectories are never resampled: questions are drawn with replacement, and so are seeds, independently, and what
is measured is where the drawn ones cross (the pigeonhole bootstrap, Owen 2007, Annals of Applied Statistics 1(2)). Its
variance holds that between questions, that between S seeds times (S - 1) / S, and what is a cell's own up to three
times. So an interval is rather too wide; but too narrow where few seeds are nearly all that differs.

Every metric here is a ratio of two sums over trajectories; a plain mean has 1 as its denominator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rest_jax.core.effects import Status
from rest_jax.evaluation.records import Record

RESAMPLES = 10_000
FEWEST_SEEDS = 3
"""Rows of fewer seeds keep them as they are: one seed shows nothing of their spread, two next to nothing."""

METRICS: dict[str, tuple[Callable[[Record], float], Callable[[Record], float]]] = {
    "em": (lambda r: r.em, lambda r: 1.0),
    "f1": (lambda r: r.f1, lambda r: 1.0),
    "em_well_formed": (lambda r: r.em * r.well_formed, lambda r: float(r.well_formed)),
    "em_grounded": (lambda r: r.grounded or 0.0, lambda r: float(r.grounded is not None)),
    "well_formed": (lambda r: float(r.well_formed), lambda r: 1.0),
    "finished": (lambda r: float(r.status == Status.FINISHED.value), lambda r: 1.0),
    "searches_per_trajectory": (lambda r: float(r.searches), lambda r: 1.0),
    "em_first": (lambda r: r.em_first or 0.0, lambda r: float(r.em_first is not None)),
    "right_to_wrong": (lambda r: (r.em_first or 0.0) * (1 - r.em), lambda r: float(r.em_first is not None)),
    "wrong_to_right": (lambda r: (1 - (r.em_first or 0.0)) * r.em, lambda r: float(r.em_first is not None)),
    "em_majority": (lambda r: r.em_majority or 0.0, lambda r: float(r.em_majority is not None)),
    "em_any": (lambda r: r.em_any or 0.0, lambda r: float(r.em_any is not None)),
    "trials_per_trajectory": (lambda r: float(r.trials or 0), lambda r: float(r.trials is not None)),
    "calls_per_trajectory": (lambda r: float(r.calls or 0), lambda r: float(r.calls is not None)),
}
"""Name → (numerator, denominator) of one record."""

COUNTS = frozenset({"searches_per_trajectory", "trials_per_trajectory", "calls_per_trajectory"})
"""The metrics that are no rates in [0, 1]."""


@dataclass(frozen=True)
class Comparison:
    """`a` minus `b` in one metric, on the questions that both answered."""

    a: str
    b: str
    metric: str
    difference: float
    ci: tuple[float, float]
    questions: int
    per_seed: tuple[float, ...]
    """The difference within each seed, in the order of the seeds."""


@dataclass(frozen=True)
class Discordance:
    """The questions on which two sides differ, and McNemar's exact test of them (McNemar 1947; binomial, two sides)."""

    only_a: int
    """Right on side a alone."""
    only_b: int
    questions: int
    """Those that both sides answered, once each."""

    @property
    def p(self) -> float:
        """How probable so uneven a share is, or a more uneven one, where either side is as likely to be right alone."""
        differing = self.only_a + self.only_b
        tail = sum(math.comb(differing, k) for k in range(min(self.only_a, self.only_b) + 1))
        return min(1.0, 2 * tail / 2**differing)


def value(records: Iterable[Record], metric: str) -> float:
    """The metric over records that are not masked; NaN when its denominator is 0."""
    sums = _sums([record for record in records if not record.masked], metric)
    return _ratio(sums[:, 0].sum(), sums[:, 1].sum())


def interval(records: Sequence[Record], metric: str, *, confidence: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of a metric over questions, and over seeds where there are `FEWEST_SEEDS` or more;
    (NaN, NaN) without records.

    A rate that is 0 or 1 in every question has the bounds of Clopper and Pearson (1934) for so many questions, because
    no resample of it differs from it.
    """
    kept = [record for record in records if not record.masked]
    ids = sorted({record.question_id for record in kept})
    if not ids:
        return (math.nan, math.nan)
    cells = _cells(kept, ids, _drawn_seeds(kept), metric)
    if metric not in COUNTS and (bounds := _bounds_at_an_end(cells.sum(0), confidence)):
        return bounds
    (values,) = _resampled([cells], seed)
    return _quantiles(values, confidence)


def compare(
    a: str,
    b: str,
    metric: str,
    records_a: Sequence[Record],
    records_b: Sequence[Record],
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Paired bootstrap of a difference: the same drawn questions and seeds for both sides.

    Only questions that both sides have (unmasked) take part. Seeds are drawn of a side that has `FEWEST_SEEDS` or more;
    the other side keeps its own. A difference that is the same in every cell has no width: no resample shows what one
    more question or seed might.
    """
    asked_a, asked_b = ({r.question_id for r in records if not r.masked} for records in (records_a, records_b))
    both = asked_a & asked_b
    if not both:
        return Comparison(a, b, metric, math.nan, (math.nan, math.nan), 0, ())
    kept_a = [record for record in records_a if not record.masked and record.question_id in both]
    kept_b = [record for record in records_b if not record.masked and record.question_id in both]
    drawn = sorted({*_drawn_seeds(kept_a), *_drawn_seeds(kept_b)})
    cells_a, cells_b = (_cells(kept, sorted(both), drawn, metric) for kept in (kept_a, kept_b))
    values_a, values_b = _resampled([cells_a, cells_b], seed)
    seeds = sorted({r.seed for r in kept_a} & {r.seed for r in kept_b})
    return Comparison(
        a=a,
        b=b,
        metric=metric,
        difference=value(kept_a, metric) - value(kept_b, metric),
        ci=_quantiles(values_a - values_b, confidence),
        questions=len(both),
        per_seed=tuple(
            value([r for r in kept_a if r.seed == s], metric) - value([r for r in kept_b if r.seed == s], metric)
            for s in seeds
        ),
    )


def discordance(records_a: Sequence[Record], records_b: Sequence[Record]) -> Discordance:
    """Compare two sides question by question, by exact match, on those that both have (unmasked).

    Raises ValueError when a side has several records of a question: they would not be independent (`compare` takes
    them).
    """
    right_a, right_b = right_of(by_question(records_a)), right_of(by_question(records_b))
    for right in (right_a, right_b):
        if (samples := sum(map(len, right.values()))) > len(right):
            raise ValueError(f"McNemar's test needs one record of each question, got {samples} of {len(right)}")
    both = right_a.keys() & right_b.keys()
    return Discordance(
        only_a=sum(right_a[id] > right_b[id] for id in both),
        only_b=sum(right_b[id] > right_a[id] for id in both),
        questions=len(both),
    )


def smallest_effect(n: int, rate: float = 0.5) -> float:
    """The smallest difference of two rates that n questions a side show with power 0.8 at the 5 % level.

    Normal approximation, two sides, unpaired (pairing makes it smaller).
    """
    return (1.96 + 0.8416) * math.sqrt(2 * rate * (1 - rate) / n)


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Unbiased pass@k of n samples of which `correct` are right (Chen et al. 2021); needs n ≥ k."""
    if n < k:
        raise ValueError(f"pass@{k} needs at least {k} samples, got {n}")
    return 1.0 - math.prod((n - correct - i) / (n - i) for i in range(k))


def by_question(records: Iterable[Record]) -> dict[str, list[Record]]:
    """The samples of each question that are not masked."""
    samples: dict[str, list[Record]] = {}
    for record in records:
        if not record.masked:
            samples.setdefault(record.question_id, []).append(record)
    return samples


def right_of(samples: Mapping[str, Sequence[Record]]) -> dict[str, list[bool]]:
    """By question: which of its samples are right, by exact match."""
    return {id: [record.em == 1.0 for record in of] for id, of in samples.items()}


def _sums(records: Sequence[Record], metric: str) -> np.ndarray:
    top, bottom = METRICS[metric]
    return np.array([(top(record), bottom(record)) for record in records], np.float64).reshape(-1, 2)


def _drawn_seeds(records: Sequence[Record]) -> list[int]:
    """The seeds of a row that are resampled: all, or none where they are too few."""
    seeds = sorted({record.seed for record in records})
    return seeds if len(seeds) >= FEWEST_SEEDS else []


def _cells(records: Sequence[Record], ids: Sequence[str], drawn: Sequence[int], metric: str) -> np.ndarray:
    """[seeds, questions, 2]: numerator and denominator summed within each cell of a drawn seed and a question.

    A row whose own seeds are not drawn has the sums over all of them in each, so that whichever are drawn leave it
    alone; where none are drawn there is one.
    """
    place = {question_id: column for column, question_id in enumerate(ids)}
    own = {seed: drawn.index(seed) for seed in _drawn_seeds(records)}
    cells = np.zeros((max(1, len(drawn)), len(ids), 2))
    where = [own.get(record.seed, 0) for record in records], [place[record.question_id] for record in records]
    np.add.at(cells, where, _sums(records, metric))
    return cells if own else np.broadcast_to(cells[0], cells.shape)


def _resampled(sides: Sequence[np.ndarray], seed: int) -> list[np.ndarray]:
    """Of the cells [seeds, questions, 2] of each side: its metric in every resample, [RESAMPLES]; all sides have the
    same draws."""
    rng = np.random.default_rng(seed)
    seeds, questions, _ = sides[0].shape
    questions_drawn, seeds_drawn = _resampled_counts(rng, questions), _resampled_counts(rng, seeds)
    by_seed = (np.tensordot(questions_drawn, cells, (1, 1)) for cells in sides)  # [RESAMPLES, seeds, 2] each
    return [_ratios(np.einsum("rs,rsk->rk", seeds_drawn, sums)) for sums in by_seed]


def _resampled_counts(rng: np.random.Generator, n: int) -> np.ndarray:
    """[RESAMPLES, n]: how often each of n was drawn, n times with replacement."""
    return rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)


def _bounds_at_an_end(sums: np.ndarray, confidence: float) -> tuple[float, float] | None:
    """Clopper-Pearson's bounds of a rate that is 0, or 1, in every question by its sums, [questions, 2]; else None."""
    top, bottom = sums.T
    n = np.count_nonzero(bottom)
    if not n or not (np.array_equal(top, bottom) or not top.any()):
        return None
    within = float(((1 - confidence) / 2) ** (1 / n))
    return (within, 1.0) if top.any() else (0.0, 1 - within)


def _ratio(top: float, bottom: float) -> float:
    return float(top / bottom) if bottom else math.nan


def _ratios(sums: np.ndarray) -> np.ndarray:
    bottom = sums[:, 1]
    return np.divide(sums[:, 0], bottom, out=np.full(len(sums), np.nan), where=bottom > 0)


def _quantiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if not len(known):
        return (math.nan, math.nan)
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return (float(low), float(high))
