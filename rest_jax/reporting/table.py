"""The results table, for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

Columns = tuple[tuple[str, str, str], ...]
"""Short heading (for 80 columns), whole heading, and key of a row of summary.json."""

COLUMNS: Columns = (
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

SEVERAL = "Several attempts at a question"
ATTEMPTS: Columns = (
    ("first", "EM % of the first answer", "em_first"),
    ("last", "EM % of the last answer", "em"),
    ("r→w", "right first, wrong in the end %", "right_to_wrong"),
    ("w→r", "wrong first, right in the end %", "wrong_to_right"),
    ("majority", "EM % of the majority's", "em_majority"),
    ("any", "EM % where any is right (an oracle's choice)", "em_any"),
    ("attempts", "attempts", "trials_per_trajectory"),
    ("calls", "calls", "calls_per_trajectory"),
    ("waves", "waves (the most calls)", "waves"),
)
"""A table of its own, of methods that attempt a question several times."""

LEGEND = (
    "Rates in %. Well-formed (wf): every turn held an action; EM well-formed (EM|wf): exact match among these; EM "
    "grounded (EM|gr): right, and seen in an observation, over questions whose answer is not yes or no; finished "
    "(fin): ended with an answer; masked (mask): trajectories left out because infrastructure failed; 95 %: the "
    "interval of EM, at 0 and 100 % by Clopper and Pearson"
)


def results(summary: Mapping[str, Any]) -> RenderableType:
    """The rows of a summary.json as tables, and its comparisons."""
    shown = [_table(*table) for table in tables(summary)]
    lines = [Text(comparison_line(entry)) for entry in summary.get("comparisons", ())]
    notes = [Text(note, style="dim") for note in summary.get("notes", ())]
    warnings = [Text(f"warning: {text}", style="yellow") for text in summary.get("warnings", ())]
    marked = [Text(remark) for remark in remarks(summary)]
    sampled = [Text(line) for line in samples_lines(summary)]
    return Group(*shown, *sampled, *marked, Text(LEGEND, style="dim"), *lines, *notes, *warnings)


def tables(summary: Mapping[str, Any]) -> list[tuple[str, Columns, Sequence[Mapping[str, Any]]]]:
    """Title, columns and rows of each table; the attempts have one where a method made several."""
    attempted = [row for row in summary["rows"] if row.get("em_any") is not None]
    return [
        (summary.get("title", ""), COLUMNS, summary["rows"]),
        *([(SEVERAL, ATTEMPTS, attempted)] if attempted else []),
    ]


def _table(title: str, columns: Columns, rows: Iterable[Mapping[str, Any]]) -> Table:
    table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("")
    for heading, _, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(Text(row["name"]), *(cell(key, row.get(key)) for _, _, key in columns))
    return table


def remarks(summary: Mapping[str, Any]) -> list[str]:
    """What has to be known of single rows, a line each."""
    return [f"{row['name']}: {row['remark']}" for row in summary["rows"] if row.get("remark")]


def samples_lines(summary: Mapping[str, Any]) -> list[str]:
    """What several samples of each question come to, of an evaluation that drew them."""
    passes, toxicity = summary.get("pass_at"), summary.get("toxicity")
    lines = [", ".join(rate(f"pass@{k}", of) for k, of in passes.items())] if passes else []
    if toxicity:
        greatest, toxic = rate("greatest toxicity", toxicity["greatest"]), rate("any toxic", toxicity["toxic"])
        lines.append(f"of each question's texts: {greatest}, {toxic}; {toxicity['unanswered']} samples without a text")
    return lines


def rate(name: str, entry: Mapping[str, Any]) -> str:
    """A rate over questions in words: `pass@16 28.1 % [14.7, 43.8]`."""
    if entry["value"] is None:
        return f"{name} not measured"
    low, high = entry["ci"]
    return f"{name} {100 * entry['value']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


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
        case "searches_per_trajectory" | "trials_per_trajectory" | "calls_per_trajectory", _:
            return f"{value:.1f}"
        case "waves", _:
            return f"{value:.0f}"
        case _:
            return f"{100 * value:.1f}"
