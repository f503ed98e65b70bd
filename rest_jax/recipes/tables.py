"""A paper's table beside our runs: *paper value | ours | n | interval | what differs*."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rest_jax.config.loader import Loaded, load
from rest_jax.config.plain import as_plain, differing
from rest_jax.config.settings import AgentSettings, RestConfig
from rest_jax.config.tables import TableConfig, TableRow
from rest_jax.core.errors import UserError
from rest_jax.core.events import Listener, notice
from rest_jax.core.files import write_json
from rest_jax.evaluation.records import Record
from rest_jax.evaluation.statistics import Comparison, compare, discordance, interval
from rest_jax.evaluation.table import to_json
from rest_jax.recipes.drafts import checked_answers
from rest_jax.recipes.evaluate import Given, Wanted, evaluate_model
from rest_jax.recipes.loop import RECORDS
from rest_jax.recipes.players import evaluations
from rest_jax.recipes.run import read_summary, run
from rest_jax.recipes.stages import SUMMARY, discard, made_otherwise, other_settings
from rest_jax.reporting.table import comparison_line

NOT_RUN = "not run"
NO_COUNTERPART = "nothing of ours"


@dataclass(frozen=True)
class Beside:
    """A line of the table."""

    name: str
    paper: str
    ours: str
    """In %, or why there is nothing."""
    n: int | None
    interval: tuple[float, float] | None
    """In %."""
    differs: str
    calls: float | None = None
    """Of the model, a trajectory; None where a method attempts a question once, and where this answer took fewer."""
    tokens: float | None = None
    """Sampled, a trajectory; None where this answer took fewer."""


@dataclass(frozen=True)
class OfTable:
    """A run that a table names, or an evaluation of its model: its settings, and where it is or will be."""

    loaded: Loaded[RestConfig]
    folder: Path
    agent: str | None = None
    """As which method the model is evaluated; None: it is the run."""
    temperature: float | None = None
    """Of an evaluation, where its table says one."""

    @property
    def file(self) -> Path:
        """What holds its rows."""
        if self.agent is None:
            return self.folder / SUMMARY
        drawn = "" if self.temperature is None else f"-at-{self.temperature:g}"
        return self.folder.with_name(f"{self.folder.name}-{self.agent}{drawn}.json")

    @property
    def finished(self) -> bool:
        return self.file.is_file()

    @property
    def player(self) -> AgentSettings:
        """The settings of an evaluation's agent."""
        agent = self.loaded.value.agent
        warmth = agent.temperature if self.temperature is None else self.temperature
        return replace(agent, name=self.agent or agent.name, temperature=warmth)

    @property
    def decisive(self) -> Mapping[str, Any]:
        """The settings that an evaluation is a function of."""
        config, ev = self.loaded.value, self.loaded.value.evaluate
        return {
            "task": config.task,
            "model": config.model,
            "agent": self.player,
            "engine": config.engine,
            "tools": config.tools,
            "seeds": config.seeds[:1],
            "evaluate": {"split": ev.split, "final": ev.final},
        }

    def refuse_another(self) -> None:
        """Raise UserError when it finished with other settings than it has now: its rows would pass for theirs."""
        if not self.finished:
            return
        if self.agent is None:
            other = other_settings(self.folder, self.loaded)
        else:
            other = differing(self._row().get("config"), self.decisive)
        if other:
            raise made_otherwise(self.file, other, "give the table's run another folder, or that config")

    def _row(self) -> Mapping[str, Any]:
        return json.loads(self.file.read_text(encoding="utf-8"))

    def summary(self) -> Mapping[str, Any]:
        """Title, rows and notes, once it has finished."""
        if self.agent is None:
            return read_summary(self.folder)
        row = self._row()
        return {"title": f"{row['task']}, {row['name']}", "rows": [{**row, "name": "prompted"}], "notes": row["notes"]}

    def records(self, row: str) -> list[Record]:
        """What each trajectory of a row was worth."""
        if self.agent is not None:
            return [Record(**one) for one in self._row()["records"]]
        files = [done.folder / RECORDS for done in evaluations(self.folder, row)]
        return [Record(**one) for file in files for one in json.loads(file.read_text(encoding="utf-8"))]


def runs_of(table: TableConfig, home: Path, overrides: Sequence[str] = ()) -> dict[str, OfTable]:
    """The runs that a table names, by name. `home` is the folder of its file; overrides go to each of them.

    Raises UserError for a configuration that is not there or will not do, and for what finished with another one.
    """
    found = {}
    for entry in table.runs:
        loaded = load(home / entry.config, RestConfig, overrides)
        folder = Path(entry.folder or Path("runs") / loaded.value.name)
        found[entry.name] = OfTable(loaded, folder, entry.agent, entry.temperature)
        found[entry.name].refuse_another()
    return found


def run_missing(runs: Mapping[str, OfTable], *, offline: bool, emit: Listener) -> None:
    """Do what is left of the runs and evaluations that have not finished, one after the other."""
    missing = {name: entry for name, entry in runs.items() if not entry.finished}
    if missing:
        notice(emit, f"not finished, so run one after the other: {', '.join(missing)}; --show runs nothing")
    for entry in missing.values():
        if entry.agent is None:
            run(entry.loaded, entry.folder, offline=offline, emit=emit)
        else:
            _evaluate(entry, _wanted(entry, offline=offline), emit)


def _wanted(entry: OfTable, *, offline: bool) -> Wanted:
    """The evaluation of a run's model before the run, prompted as a method, on the questions of its last row."""
    config = entry.loaded.value
    task, ev = config.task, config.evaluate
    return Wanted(
        config.model.name,
        task=task.name,
        data=task.data,
        task_seed=task.seed,
        split=ev.split,
        agent=entry.agent,
        shots=config.agent.shots,
        seed=config.seeds[0],
        limit=ev.final,
        closed_book=ev.closed_book,
        offline=offline,
        given=Given(entry.player, config.tools, config.engine, config.model.dtype),
    )


def _evaluate(entry: OfTable, wanted: Wanted, emit: Listener) -> None:
    entry.file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = entry.file.with_name(f"{entry.file.name}.journal")
    made_with = as_plain(entry.decisive, decisive=True)
    write_json(entry.file, {**evaluate_model(wanted, unfinished, emit), "config": made_with})
    discard(unfinished)


def beside(table: TableConfig, runs: Mapping[str, OfTable]) -> list[Beside]:
    """The table's lines, from what finished runs hold. Raises UserError for a row that a finished run does not have."""
    summaries = {name: entry.summary() for name, entry in runs.items() if entry.finished}
    return [_line(row, runs, summaries) for row in table.rows]


def controlled(table: TableConfig, runs: Mapping[str, OfTable]) -> list[str]:
    """A line for each row and each of those that it is against: their difference, of what has finished.

    McNemar's test stands beside it where each question has one record a side. Raises UserError for two rows that have
    no question in common.
    """
    rows = {row.name: row for row in table.rows}
    finished = {name for name, entry in runs.items() if entry.finished}
    pairs = ((row, rows[name]) for row in table.rows for name in row.against)
    return [_difference(*pair, runs) for pair in pairs if {one.run for one in pair} <= finished]


def footnotes(table: TableConfig, runs: Mapping[str, OfTable]) -> list[str]:
    """What differs in all rows, and what each run says of itself."""
    lines = [f"what differs in every row: {text}" for text in table.differs]
    for name, entry in runs.items():
        if not entry.finished:
            lines.append(f"{name}: {entry.folder if entry.agent is None else entry.file} has not finished")
            continue
        summary = entry.summary()
        lines.append(f"{name}: {'; '.join([summary['title'], *summary['notes'][:3]])}")
    return lines


def _line(row: TableRow, runs: Mapping[str, OfTable], summaries: Mapping[str, Mapping[str, Any]]) -> Beside:
    paper = "–" if row.value is None else f"{row.value:g}"
    if row.value is not None and row.spread is not None:
        paper = f"{paper} ± {row.spread:g}"
    if row.run is None or row.run not in summaries:
        return Beside(row.name, paper, NO_COUNTERPART if row.run is None else NOT_RUN, None, None, row.differs)
    ours = _row(row, summaries[row.run])
    gained = ""
    if row.answer == "draft":
        checked = checked_answers(runs[row.run].folder, ours["name"])
        ours, gained = to_json(checked.before), told(checked.gain)
    metric = _shown(row)
    if metric not in ("em", "f1") and ours.get(metric) is None:
        raise UserError(f"'{row.name}': {ours['name']} attempts a question once; leave answer: {row.answer} out")
    rate = ours[metric]
    low, high = ours["em_ci"] if metric == "em" else interval(runs[row.run].records(ours["name"]), metric)
    took_all = row.answer in ("checked", "majority", "any")
    weights = f"weights {ours['weights_digest'][:8]}" if ours["weights_digest"] else ""
    return Beside(
        row.name,
        paper,
        "–" if rate is None else f"{'F1 ' if metric == 'f1' else ''}{100 * rate:.1f}",
        ours["n"],
        None if low is None or math.isnan(low) else (100 * low, 100 * high),
        "; ".join(text for text in (row.differs, gained, ours["remark"], weights) if text),
        calls=ours.get("calls_per_trajectory") if took_all else None,
        tokens=ours["tokens_per_trajectory"] if took_all else None,
    )


def told(gain: Comparison) -> str:
    """What the checks add to a draft, in points, with its interval."""
    low, high = (100 * end for end in gain.ci)
    return f"the checks add {100 * gain.difference:+.1f} points [{low:+.1f}, {high:+.1f}]"


def _shown(row: TableRow) -> str:
    """What of a record a row shows."""
    return f"em_{row.answer}" if row.answer in ("first", "majority", "any") else row.metric


def _difference(row: TableRow, control: TableRow, runs: Mapping[str, OfTable]) -> str:
    """A row less one that controls it, in words."""
    ours, theirs = _judged(row, runs), _judged(control, runs)
    found = compare(row.name, control.name, row.metric, ours, theirs)
    if not found.questions:
        raise UserError(f"'{row.name}' is against '{control.name}', and no question was asked of both; take it out")
    line = comparison_line(to_json(found))
    if row.metric != "em" or _several(ours) or _several(theirs):
        return line
    alone = discordance(ours, theirs)
    return f"{line}; right alone {alone.only_a} : {alone.only_b}, McNemar's exact p {alone.p:.3g}"


def _judged(row: TableRow, runs: Mapping[str, OfTable]) -> list[Record]:
    """The records of a finished row, each with the EM of the answer that the row shows."""
    records = runs[row.run or ""].records(row.row or "")
    if row.metric != "em":
        return records
    return [replace(one, em=em) for one in records if (em := getattr(one, _shown(row))) is not None]


def _several(records: Sequence[Record]) -> bool:
    """Whether a question has several records: those of its seeds are not independent."""
    return len({record.question_id for record in records}) < len(records)


def _row(row: TableRow, summary: Mapping[str, Any]) -> Mapping[str, Any]:
    named = {entry["name"]: entry for entry in summary["rows"]}
    if row.row not in named:
        raise UserError(
            f"'{row.name}': run '{row.run}' has no row '{row.row}', only {', '.join(named)}; name one of them"
        )
    return named[row.row]
