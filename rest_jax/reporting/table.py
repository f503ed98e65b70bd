"""The results table, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

COLUMNS = (
    ("n", "n", "n"),
    ("EM", "EM %", "em"),
    ("95 %", "95 % interval", "em_ci"),
    ("EM|wf", "EM well-formed %", "em_well_formed"),
    ("EM|gr", "EM grounded %", "em_grounded"),
    ("F1", "F1 %", "f1"),
    ("wf", "well-formed %", "well_formed"),
    ("fin", "finished %", "finished"),
    ("mask", "masked", "masked"),
    ("srch", "searches", "searches_per_trajectory"),
    ("kept", "kept %", "kept_fraction"),
)
"""Short heading (for 80 columns), whole heading, and key of a row of summary.json."""

LEGEND = (
    "Rates in %. Well-formed (wf): every turn held an action; EM well-formed (EM|wf): exact match among these; EM "
    "grounded (EM|gr): right, and seen in an observation, over questions whose answer is not yes or no; finished "
    "(fin): ended with an answer; masked (mask): trajectories left out because infrastructure failed"
)


def results(summary: Mapping[str, Any]) -> RenderableType:
    """The rows and comparisons of a summary.json as one table."""
    table = Table(
        title=Text(summary.get("title", "")), title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0)
    )
    table.add_column("")
    for heading, _, _ in COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in summary["rows"]:
        table.add_row(Text(row["name"]), *(cell(key, row.get(key)) for _, _, key in COLUMNS))
    lines = [Text(comparison_line(entry)) for entry in summary.get("comparisons", ())]
    notes = [Text(note, style="dim") for note in summary.get("notes", ())]
    warnings = [Text(f"warning: {text}", style="yellow") for text in summary.get("warnings", ())]
    marked = [Text(remark) for remark in remarks(summary)]
    return Group(table, *marked, Text(LEGEND, style="dim"), *lines, *notes, *warnings)


def remarks(summary: Mapping[str, Any]) -> list[str]:
    """What has to be known of single rows, a line each."""
    return [f"{row['name']}: {row['remark']}" for row in summary["rows"] if row.get("remark")]


def comparison_line(entry: Mapping[str, Any]) -> str:
    """One comparison in words: `gen 2 − pilot, EM: +7.3 points [+2.1, +12.4], 300 questions`."""
    if entry["difference"] is None:
        return f"{entry['a']} − {entry['b']}, {entry['metric']}: not measured"
    low, high = entry["ci"]
    seeds = [difference for difference in entry.get("per_seed") or () if difference is not None]
    signs = f", {sum(d > 0 for d in seeds)}/{len(seeds)} seeds positive" if len(seeds) > 1 else ""
    return (
        f"{entry['a']} − {entry['b']}, {entry['metric']}: {100 * entry['difference']:+.1f} points "
        f"[{100 * low:+.1f}, {100 * high:+.1f}], {entry['questions']} questions{signs}"
    )


def cell(key: str, value: Any) -> str:
    """One cell: rates in percent, an en dash where nothing was measured."""
    match key, value:
        case _, None | [None, *_]:
            return "–"
        case "em_ci", [low, high]:
            return f"{100 * low:.1f}–{100 * high:.1f}"
        case "n" | "masked", _:
            return str(value)
        case "searches_per_trajectory", _:
            return f"{value:.1f}"
        case _:
            return f"{100 * value:.1f}"
