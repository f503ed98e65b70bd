"""A row of the results table, as it stands in summary.json."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rest_jax.evaluation.records import Record
from rest_jax.evaluation.samples import Estimate, Toxicity
from rest_jax.evaluation.statistics import Comparison, interval, value


@dataclass(frozen=True)
class Row:
    """One policy on one split. Rates are in [0, 1]; NaN (null in JSON) where nothing was measured."""

    name: str
    task: str
    split: str
    n: int
    """Trajectories that count: questions × samples × seeds, without the masked."""
    questions: int
    seeds: int
    masked: int
    """Trajectories whose infrastructure failed: part of no rate."""
    em: float
    em_ci: tuple[float, float]
    em_well_formed: float
    em_grounded: float
    """Over the questions whose answer is not yes or no."""
    f1: float
    well_formed: float
    finished: float
    """Ended with an answer."""
    searches_per_trajectory: float
    tokens_per_trajectory: float
    kept_fraction: float
    """Of the Grow that this policy was trained on: what passed the threshold. NaN for policies without a Grow."""
    seconds: float
    weights_digest: str
    remark: str = ""
    """What a reader has to know of this row beside its numbers."""
    em_first: float = math.nan
    """EM of the first attempt's answer. This and what follows: NaN where a method attempts a question once."""
    right_to_wrong: float = math.nan
    """The first attempt was right and the trajectory's answer is not; with `wrong_to_right`, `em_first` and `em` the
    whole matrix of flips."""
    wrong_to_right: float = math.nan
    em_majority: float = math.nan
    """EM of the answer that most attempts gave."""
    em_any: float = math.nan
    """Where any attempt was right: an oracle's choice."""
    trials_per_trajectory: float = math.nan
    """Attempts."""
    calls_per_trajectory: float = math.nan
    waves: float = math.nan
    """The most calls of a trajectory: the rounds in which every live episode advances one call, all begun at once."""


def row(
    name: str,
    records: Sequence[Record],
    *,
    task: str,
    split: str,
    weights_digest: str,
    seconds: float = math.nan,
    kept_fraction: float = math.nan,
    remark: str = "",
) -> Row:
    """Summarise records; the interval is `statistics.interval` at 95 %."""
    counted = [record for record in records if not record.masked]
    return Row(
        name=name,
        task=task,
        split=split,
        n=len(counted),
        questions=len({record.question_id for record in counted}),
        seeds=len({record.seed for record in counted}),
        masked=len(records) - len(counted),
        em=value(counted, "em"),
        em_ci=interval(counted, "em"),
        em_well_formed=value(counted, "em_well_formed"),
        em_grounded=value(counted, "em_grounded"),
        f1=value(counted, "f1"),
        well_formed=value(counted, "well_formed"),
        finished=value(counted, "finished"),
        searches_per_trajectory=value(counted, "searches_per_trajectory"),
        tokens_per_trajectory=sum(r.model_tokens for r in counted) / len(counted) if counted else math.nan,
        kept_fraction=kept_fraction,
        seconds=seconds,
        weights_digest=weights_digest,
        remark=remark,
        em_first=value(counted, "em_first"),
        right_to_wrong=value(counted, "right_to_wrong"),
        wrong_to_right=value(counted, "wrong_to_right"),
        em_majority=value(counted, "em_majority"),
        em_any=value(counted, "em_any"),
        trials_per_trajectory=value(counted, "trials_per_trajectory"),
        calls_per_trajectory=value(counted, "calls_per_trajectory"),
        waves=max((float(r.calls) for r in counted if r.calls is not None), default=math.nan),
    )


def to_json(entry: Row | Comparison | Record | Estimate | Toxicity) -> dict[str, Any]:
    """A row, comparison, record or estimate as JSON, with NaN as null."""
    return _plain(asdict(entry))


def _plain(entry: Any) -> Any:
    if isinstance(entry, float):
        return None if math.isnan(entry) else entry
    if isinstance(entry, tuple | list):
        return [_plain(item) for item in entry]
    if isinstance(entry, dict):
        return {key: _plain(item) for key, item in entry.items()}
    return entry
