"""The file behind `rest-jax tables`: a paper's table, and which rows of which runs of ours stand beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from rest_jax.config.limits import Distinct, NotNegative


@dataclass(frozen=True)
class PaperSettings:
    """Where the values stand."""

    title: str
    arxiv: str
    table: str
    metric: str
    """What is measured, with its unit."""
    section: str = ""
    """Where the table does not tell."""
    n: str = "not given"
    """Of how many."""
    remark: str = ""
    """What a reader has to know of all of its values."""


@dataclass(frozen=True)
class TableRun:
    """A run of ours."""

    name: str
    config: str
    """Its configuration, as seen from this file."""
    folder: str | None = None
    """Where it runs; null is runs/NAME, as of `rest-jax run`. Of an evaluation the file is FOLDER-AGENT.json, with a
    temperature FOLDER-AGENT-at-T.json."""
    agent: str | None = None
    """Not the run, but its model before it, evaluated as this method on the questions of its last row: `rest-jax eval
    --agent`. Its row is called `prompted`."""
    temperature: NotNegative | None = None
    """Of an evaluation, in place of its configuration's `agent.temperature`; null: that one, and greedy without it."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.temperature is not None and self.agent is None:
            yield "temperature", "is an evaluation's; name its agent, or set the temperatures of a run in its config"


@dataclass(frozen=True)
class TableRow:
    """A value of the paper, and its counterpart."""

    name: str
    """Row and column, as the paper calls them."""
    value: float | None = None
    """In the paper's unit; null where it gives none."""
    spread: float | None = None
    """What the paper gives after ±."""
    run: str | None = None
    """One of `runs`; null: nothing of ours corresponds to it."""
    row: str | None = None
    """The row of that run's table that is shown."""
    answer: Literal["checked", "draft", "first", "majority", "any"] = "checked"
    """draft: of the search agent's answers before it checked them, read from the run's logs. Of a method that attempts
    a question several times: its first answer, what most attempts say, whether any is right (an oracle's choice)."""
    metric: Literal["em", "f1"] = "em"
    """What of that is shown: exact match, or F1 (coverage, of `commongen_hard`)."""
    against: Distinct[str] = ()
    """Rows of this table that it is controlled by: its difference to each is printed, paired by question."""
    differs: str = ""
    """What else is not the same."""


@dataclass(frozen=True)
class TableConfig:
    """A paper's table."""

    paper: PaperSettings
    rows: tuple[TableRow, ...]
    runs: tuple[TableRun, ...] = ()
    differs: tuple[str, ...] = field(default=())
    """What is not the same in any row."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        known = [run.name for run in self.runs]
        if len(set(known)) < len(known):
            yield "runs", f"expected different names, got {known}; rows name them"
        evaluations = [run.name for run in self.runs if run.agent is not None]
        rows = {entry.name: entry for entry in self.rows}
        if len(rows) < len(self.rows):
            yield "rows", "expected different names; `against` names them"
        for entry in self.rows:
            if entry.answer == "draft" and entry.run in evaluations:
                yield "rows", f"'{entry.name}' wants drafts, and evaluation '{entry.run}' keeps none; name a run"
            if entry.answer != "checked" and entry.metric != "em":
                yield (
                    "rows",
                    f"'{entry.name}' wants {entry.metric} of answer {entry.answer}, of which EM is known alone",
                )
            if (entry.run is None) is not (entry.row is None):
                yield "rows", f"'{entry.name}' has one of run and row; set both, or leave both out"
            if entry.run is not None and entry.run not in known:
                yield "rows", f"'{entry.name}' names run '{entry.run}'; runs has {', '.join(known) or 'none'}"
            for name in entry.against:
                if name == entry.name or name not in rows:
                    yield "rows", f"'{entry.name}' is against '{name}', which is no other row; name one of this table"
                elif any(one.run is None or one.answer == "draft" for one in (entry, rows[name])):
                    yield "rows", f"'{entry.name}' is against '{name}'; both need a row of ours, and no draft"
                elif rows[name].metric != entry.metric:
                    yield "rows", f"'{entry.name}' is against '{name}'; both need the same metric"
