"""summary.json: the rows and comparisons of a run, pooled over its seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from rest_jax.evaluation.records import Record
from rest_jax.evaluation.statistics import FEWEST_SEEDS, compare
from rest_jax.evaluation.table import row, to_json

SCHEMA_VERSION = 2
COMPARED = ("em", "em_well_formed", "em_grounded")
COMPARED_AS_METHODS = ("em", "em_majority", "em_any")


@dataclass(frozen=True)
class Measured:
    """An evaluated policy of one seed: the name of its row, and its records."""

    name: str
    split: str
    records: tuple[Record, ...]
    weights_digest: str
    seconds: float
    kept_fraction: float = math.nan
    remark: str = ""


def summarise(
    measured: Sequence[Measured],
    *,
    title: str,
    task: str,
    described: Mapping[str, Any],
    against: Sequence[str],
    seeds: Sequence[int],
    notes: Sequence[str],
    warnings: Sequence[str],
) -> dict[str, Any]:
    """The content of summary.json. Measurements of one name are pooled (their seeds differ, their split does not).

    `task` is the task's name, `described` what it says of itself. The last generation is compared with every row that
    `against` names, and every row NAME with the row "NAME prompted". As another method plays it (`METHOD: gen 2`) it is
    compared with that method's pilot and with the other methods.
    """
    pooled: dict[str, list[Measured]] = {}
    for entry in measured:
        pooled.setdefault(entry.name, []).append(entry)
    records = {name: [r for entry in entries for r in entry.records] for name, entries in pooled.items()}
    final = [name for name in pooled if name.startswith("gen ")][-1:]
    pairs = [(last, name) for last in final for name in pooled if name in against and name != last]
    pairs += [(name, before) for name in pooled if (before := f"{name} prompted") in pooled]
    methods = [name.removesuffix(f": {last}") for last in final for name in pooled if name.endswith(f": {last}")]
    as_methods = [(f"{one}: {last}", f"{one}: pilot") for last in final for one in methods]
    as_methods += [(f"{a}: {last}", f"{b}: {last}") for last in final for a, b in combinations(methods, 2)]
    return {
        "schema_version": SCHEMA_VERSION,
        "title": title,
        "task": dict(described),
        "rows": [to_json(_row(name, entries, task)) for name, entries in pooled.items()],
        "comparisons": [
            to_json(compare(a, b, metric, records[a], records[b]))
            for compared, metrics in ((pairs, COMPARED), (as_methods, COMPARED_AS_METHODS))
            for a, b in compared
            for metric in metrics
        ],
        "notes": [f"seeds {', '.join(map(str, seeds))}; intervals: 95 % bootstrap over {_over(len(seeds))}", *notes],
        "warnings": list(warnings),
    }


def curve(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows that form the curve over generations."""
    return [r for r in summary["rows"] if r["name"] in ("prompted", "pilot") or r["name"].startswith("gen ")]


def _over(seeds: int) -> str:
    """What the intervals of a run of so many seeds are over. Some of its rows are measured once for all seeds."""
    if seeds < FEWEST_SEEDS:
        return "questions; these seeds fixed"
    return f"questions and seeds (a row of fewer than {FEWEST_SEEDS} seeds: over questions; these seeds fixed)"


def _row(name: str, entries: Sequence[Measured], task: str) -> Any:
    kept = [entry.kept_fraction for entry in entries]
    digests = sorted({entry.weights_digest for entry in entries})
    return row(
        name,
        [record for entry in entries for record in entry.records],
        task=task,
        split=entries[0].split,
        # Several seeds have several weights: each is named.
        weights_digest=",".join(digests),
        seconds=sum(entry.seconds for entry in entries),
        kept_fraction=sum(kept) / len(kept),
        remark="; ".join(dict.fromkeys(entry.remark for entry in entries if entry.remark)),
    )
