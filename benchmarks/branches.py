"""Which branches of its methods a real model takes: counts, not speed.

    rest-jax eval --model M --task T --agent NAME … --json OUT/NAME.json      for each method
    python -m benchmarks.branches OUT/*.json --json OUT

Each file's moves (docs/interfaces.md) are compared with those of the method's scripted pages, where every branch is
taken (tests/golden/moves.json). A move that only the model makes, such as into an ending that no page has, is counted
beside them.
"""

from __future__ import annotations

import argparse
import json
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
    "moves": "taken",
    "of": "scripted",
    "others": "others",
    "not taken": "missing",
}


def branches(measured: dict[str, Any], scripted: dict[str, list[str]]) -> dict[str, Any]:
    """The row of one evaluation. KeyError for a method without pages."""
    method = measured["inputs"]["agent"]["name"]
    wanted, taken = set(scripted[method]), measured["moves"].keys()
    return {
        "method": method,
        "task": measured["task"],
        "n": measured["n"],
        "weights_digest": measured["weights_digest"],
        "em_percent": _percent(measured["em"]),
        "em_any_percent": _percent(measured["em_any"]),
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
    rows = [branches(json.loads(file.read_text(encoding="utf-8")), scripted) for file in asked.measured]
    write_json(asked.json, {"rows": rows})
    show("Branches", COLUMNS, [{**row, "missing": "; ".join(row["missing"])} for row in rows], [])


if __name__ == "__main__":
    main()
