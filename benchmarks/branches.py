"""Which branches of its methods a real model takes: counts, not speed.

    rest-jax eval --model M --task T --agent NAME … --json OUT/NAME.json      for each method, and again
    python -m benchmarks.branches OUT/*.json --json OUT

The moves (docs/interfaces.md) of all of a method's evaluations together are compared with those of its scripted pages,
where every branch is taken (tests/golden/moves.json). A move that only a model makes, such as into an ending that no
page has, is counted beside them. Task, n and EM are those of the evaluation that scored best.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import show
from rest_jax.core.files import write_json

SCRIPTED = Path(__file__).parents[1] / "tests" / "golden" / "moves.json"
COLUMNS = {
    "method": "method",
    "task": "task",
    "n": "n",
    "EM %": "em_percent",
    "any right %": "em_any_percent",
    "evaluations": "evaluations",
    "moves": "taken",
    "of": "scripted",
    "others": "others",
    "not taken": "missing",
}


def branches(method: str, evaluations: Sequence[dict[str, Any]], scripted: dict[str, list[str]]) -> dict[str, Any]:
    """The row of one method; one without pages has only moves that a model alone makes."""
    wanted = set(scripted.get(method, ()))
    taken = {move for one in evaluations for move in one["moves"]}
    best = max(evaluations, key=lambda one: one["em"] or 0)
    return {
        "method": method,
        "task": best["task"],
        "n": best["n"],
        "weights_digest": best["weights_digest"],
        "em_percent": _percent(best["em"]),
        "em_any_percent": _percent(best["em_any"]),
        "evaluations": len(evaluations),
        "taken": len(wanted & taken),
        "scripted": len(wanted),
        "others": len(taken - wanted),
        "missing": sorted(wanted - taken),
    }


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measured", nargs="+", type=Path, help="what `rest-jax eval --json` wrote")
    parser.add_argument("--json", type=Path, required=True, metavar="OUT", help="where the rows go")
    asked = parser.parse_args()
    scripted = json.loads(SCRIPTED.read_text(encoding="utf-8"))
    of_method: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for file in asked.measured:
        one = json.loads(file.read_text(encoding="utf-8"))
        of_method[one["inputs"]["agent"]["name"]].append(one)
    rows = [branches(method, evaluations, scripted) for method, evaluations in of_method.items()]
    write_json(asked.json, {"rows": rows})
    show("Branches", COLUMNS, [{**row, "missing": "; ".join(row["missing"])} for row in rows], [])


if __name__ == "__main__":
    main()
