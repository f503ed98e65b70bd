"""report.html: one self-contained file that opens from disk, without a script source, a font or a request.

Model and tool text is hostile. Every word of it passes through Jinja2's autoescape; the page's content security
policy allows no request at all and only the one inline script whose hash it names.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from rest_jax.agents.actions import thought_and_action
from rest_jax.core.files import written_whole
from rest_jax.core.trajectory import Trajectory
from rest_jax.core.transcript import Source
from rest_jax.reporting import charts
from rest_jax.reporting.table import LEGEND, cell, comparison_line, remarks, tables

TAKEN: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("trajectories", lambda line: f"{line['step']}"),
    ("sampled tokens", lambda line: f"{line['sampled_tokens']:,}"),
    ("prefilled tokens", lambda line: f"{line['prefilled_tokens']:,}"),
    ("rows busy %", lambda line: cell("occupancy", line["occupancy"])),
    ("rows parked", lambda line: f"{line['parked']:,}"),
    ("put back", lambda line: f"{line['unparked']:,}"),
    ("copied to others", lambda line: f"{line['copied']:,}"),
    ("MB copied", lambda line: f"{line['copied_bytes'] / 1e6:,.0f}"),
    ("engine seconds", lambda line: f"{line['engine_seconds']:,.1f}"),
)
"""What the page says of a rollout; the seconds hold those of the copies."""


@dataclass(frozen=True)
class GrowSummary:
    """One Grow: its rewards, and for each threshold the share that was kept."""

    name: str
    rewards: Sequence[float]
    kept: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Judged:
    """A trajectory to show, with what it was worth."""

    trajectory: Trajectory
    gold: str
    reward: float | None
    em: float


@dataclass(frozen=True)
class Report:
    """All that the page shows. `summary` is summary.json; `losses` maps a stage to its loss at each step."""

    title: str
    summary: Mapping[str, Any]
    curve: Sequence[Mapping[str, Any]]
    """The rows of summary.json that form the curve over generations, in order."""
    grown: Sequence[GrowSummary] = ()
    losses: Mapping[str, Sequence[float]] = field(default_factory=dict)
    rollouts: Sequence[Mapping[str, Any]] = ()
    """Lines of metrics.jsonl: what each rollout took."""
    galleries: Mapping[str, Sequence[Judged]] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    config: str = ""


@dataclass(frozen=True)
class Card:
    """One piece of a trajectory as a reader sees it.

    `kind` is question, thought, action, observation, answer, stopped, or model: a turn that holds no action.
    """

    kind: str
    text: str


def write_report(path: Path, report: Report) -> None:
    """Render the page to `path`."""
    template_folder = resources.files("rest_jax.reporting") / "templates"
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    script = (template_folder / "report.js").read_text(encoding="utf-8")
    page = environment.from_string((template_folder / "report.html.j2").read_text(encoding="utf-8")).render(
        report=report,
        tables=tables(report.summary),
        cell=cell,
        comparison_line=comparison_line,
        remarks=remarks(report.summary),
        legend=LEGEND,
        cards=cards,
        charts=_charts(report),
        rollouts=[(line["stage"], [show(line) for _, show in TAKEN]) for line in report.rollouts],
        taken=[heading for heading, _ in TAKEN],
        style=Markup((template_folder / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    with written_whole(path) as part:
        part.write_text(page, encoding="utf-8")


def cards(trajectory: Trajectory) -> list[Card]:
    """A trajectory as question, thought, action and observation cards, in the order in which they came to be (shots
    left out)."""
    found = [Card("question", trajectory.question)]
    observing = {call.after + 1 for call in trajectory.tool_calls}  # other calls may be shown the same again
    for call in trajectory.calls:
        seen = call.segments if call.index in observing else ()
        found += [Card("observation", s.text) for s in seen if s.source is Source.TOOL and not s.shots]
        thought, action = thought_and_action(call.candidates[call.chosen].text)
        found += [Card("thought", thought), Card("action", action)] if action else [Card("model", thought)]
    ending = (
        trajectory.answer if trajectory.answer is not None else f"{trajectory.status.value} {trajectory.why}".strip()
    )
    found.append(Card("answer" if trajectory.answer is not None else "stopped", ending))
    return found


def _charts(report: Report) -> list[tuple[str, Markup]]:
    drawn = [("Over the generations", _curve(report.curve))]
    drawn += [(f"Rewards · {g.name}", charts.histogram(g.rewards, x_label="reward")) for g in report.grown]
    kept = [charts.Series(g.name, list(g.kept)) for g in report.grown if g.kept]
    drawn.append(
        (
            "Kept by threshold",
            charts.lines(kept, x_label="threshold τ", y_label="kept", y_range=(0, 1)),
        )
    )
    losses = [charts.Series(name, list(enumerate(values, 1))) for name, values in report.losses.items() if values]
    drawn.append(("Training loss", charts.lines(losses[:6], x_label="optimizer step", y_label="loss per model token")))
    # The charts module escapes every label itself.
    return [(title, Markup(svg)) for title, svg in drawn if svg]


def _curve(rows: Sequence[Mapping[str, Any]]) -> str:
    def series(name: str, key: str) -> charts.Series:
        points = [(place, row[key]) for place, row in enumerate(rows) if row[key] is not None]
        intervals = [row["em_ci"] if key == "em" else None for row in rows if row[key] is not None]
        return charts.Series(name, points, intervals)

    wanted = [("EM", "em"), ("EM, grounded", "em_grounded"), ("F1", "f1"), ("well-formed", "well_formed")]
    return charts.lines(
        [series(name, key) for name, key in wanted],
        x_label="",
        y_label="rate",
        y_range=(0, 1),
        x_names=[row["name"] for row in rows],
    )
