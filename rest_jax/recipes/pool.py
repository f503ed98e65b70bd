"""Seeds that were run apart, on other machines or other days, in one table.

What is pooled is evidence: what each trajectory of a finished run was worth, without the trajectories and the weights.
It is small enough to be published beside a table, and whoever has it comes to the same table and intervals again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import reduce
from pathlib import Path
from typing import Any

from rest_jax.config.plain import as_plain, differing
from rest_jax.core.errors import UserError
from rest_jax.core.files import written_whole
from rest_jax.evaluation.records import Record
from rest_jax.evaluation.table import to_json
from rest_jax.recipes.run import COMPARED_WITH, ONCE, notes, read_summary, title
from rest_jax.recipes.stages import read_environment
from rest_jax.recipes.students import PROMPTED
from rest_jax.recipes.summary import Measured, summarise
from rest_jax.recipes.verify import walked

SCHEMA_VERSION = 1
_SAID_OF_INTERVALS = "; intervals: 95 % bootstrap over questions"
"""How a note of evidence ended before the pooled summary said it, which knows of how many seeds."""
_FIELDS = tuple(field.name for field in fields(Record))


@dataclass(frozen=True)
class Evidence:
    """What finished runs of one configuration measured, each in seeds of its own."""

    title: str
    task: str
    described: Mapping[str, Any]
    """What the task says of itself."""
    config: Mapping[str, Any]
    """The settings that decide bits, without the seeds."""
    environments: Mapping[str, Mapping[str, Any]]
    """By seed: versions and device with which its run began."""
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    measured: tuple[Measured, ...]

    @property
    def seeds(self) -> list[int]:
        """In ascending order."""
        return sorted(map(int, self.environments))


def evidence_of(path: Path) -> Evidence:
    """The evidence of a finished run's folder, which is verified on the way, or that of a file of `write_evidence`.

    Raises UserError for a run that is not what it says, and for a file that is damaged or of another version.
    """
    if not path.is_dir():
        return _read(path)
    warnings = read_summary(path)["warnings"]
    with walked(path) as walk:
        if differences := walk.audit.differences:
            raise UserError(f"{path}: {differences[0]} …; see `rest-jax verify {path}`, pool what is as stored")
        return Evidence(
            title(walk.config, walk.task),
            walk.task.name,
            walk.task.describe(),
            {key: value for key, value in as_plain(walk.config, decisive=True).items() if key != "seeds"},
            {str(seed): read_environment(path) for seed in walk.config.seeds},
            tuple(notes(walk.config, walk.task)),
            tuple(warnings),
            tuple(walk.measured),
        )


def pooled(paths: Sequence[Path]) -> Evidence:
    """The evidence of several, as if one run had had all their seeds. Raises UserError where settings differ or a seed
    stands twice."""
    found = sorted(((evidence_of(path), path) for path in paths), key=lambda one: one[0].seeds)
    first, where = found[0]
    for other, path in found[1:]:
        if names := differing(first.config, other.config):
            raise UserError(
                f"{path}: made with other settings ({', '.join(names)}) than {where}; only their seeds may differ"
            )
    for place, (one, path) in enumerate(found):
        for other, there in found[:place]:
            if twice := set(one.seeds) & set(other.seeds):
                raise UserError(f"{path}: seed {min(twice)} is in {there} too; give each seed once")
    return reduce(_joined, (one for one, _ in found))


def summary(evidence: Evidence) -> dict[str, Any]:
    """What summary.json would hold, had one run had all these seeds."""
    return summarise(
        evidence.measured,
        title=evidence.title,
        task=evidence.task,
        described=evidence.described,
        against=COMPARED_WITH,
        seeds=evidence.seeds,
        notes=evidence.notes,
        warnings=evidence.warnings,
    )


def write_evidence(path: Path, evidence: Evidence) -> None:
    """JSON lines: what all is about, then a line for each measurement, its records by column."""
    about = {name: getattr(evidence, name) for name in _ABOUT}
    lines = [{"schema_version": SCHEMA_VERSION, **about}, *map(_plain, evidence.measured)]
    with written_whole(path) as part:
        part.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


_ABOUT = ("title", "task", "described", "config", "environments", "notes", "warnings")


def _joined(first: Evidence, other: Evidence) -> Evidence:
    return replace(
        first,
        environments={**first.environments, **other.environments},
        warnings=tuple(dict.fromkeys((*first.warnings, *other.warnings))),
        measured=(*first.measured, *(one for one in other.measured if not _once(one.name))),
    )


def _once(name: str) -> bool:
    """Whether a row is measured once for all seeds: pooled runs have it once each, of the same model."""
    of_base = name.endswith(": prompted")  # as another method
    return name in ONCE or of_base or (name.startswith("student ") and name.endswith(PROMPTED))


def _plain(measured: Measured) -> dict[str, Any]:
    records = [to_json(record) for record in measured.records]
    columns = {name: [record[name] for record in records] for name in _FIELDS}
    kept = None if math.isnan(measured.kept_fraction) else measured.kept_fraction
    return {**vars(measured), "kept_fraction": kept, "records": columns}


def _read(path: Path) -> Evidence:
    try:
        about, *lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        version = about.pop("schema_version")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such run and no such file") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: no evidence of `rest-jax pool --evidence`") from None
    if version != SCHEMA_VERSION:
        raise UserError(f"{path}: evidence of schema version {version}, this rest_jax reads {SCHEMA_VERSION}")
    try:
        measured = tuple(map(_measured, lines))
        said = tuple(note.removesuffix(_SAID_OF_INTERVALS) for note in about.pop("notes"))
        return Evidence(**about, notes=said, measured=measured)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: damaged ({type(error).__name__}: {error}); write it again from its runs") from None


def _measured(line: dict[str, Any]) -> Measured:
    columns = line.pop("records")
    rows = zip(*columns.values(), strict=True)
    kept = line.pop("kept_fraction")
    records = tuple(Record(**dict(zip(columns, row, strict=True))) for row in rows)
    return Measured(**line, records=records, kept_fraction=math.nan if kept is None else kept)
