"""HumanEval (Chen et al. 2021): functions to be written from their signature and docstring, and run against tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rest_jax.core.trajectory import Question
from rest_jax.tasks.files import read_jsonl
from rest_jax.tasks.programs import NOTES, program_metric
from rest_jax.tasks.published import Dataset, File, Row
from rest_jax.tasks.splits import Split
from rest_jax.tasks.task import Task

FIELDS: dict[str, type] = dict.fromkeys(("task_id", "prompt", "entry_point", "canonical_solution", "test"), str)


def parse(path: Path) -> Iterator[Row]:
    """The functions of a file, with their places in it."""
    for index, row in enumerate(read_jsonl(path, FIELDS, "function")):
        yield {
            "id": row["task_id"],
            "index": f"{index:04d}",
            "prompt": row["prompt"],
            "solution": row["canonical_solution"],
            "tests": f"{row['test']}\ncheck({row['entry_point']})",
        }


DATASET = Dataset(
    name="humaneval",
    homepage="https://github.com/openai/human-eval",
    files={"test": File("HumanEval.jsonl")},
    fields=dict.fromkeys(("id", "index", "prompt", "solution", "tests"), str),
    parse=parse,
)


def humaneval(data: Path | None, folder: Path) -> Task:
    """All of HumanEval, which is a test set. Gold is the canonical solution.

    An answer goes on where the prompt ends; since the prompt's last function is whole by its docstring, it may as well
    define that function anew.
    """
    from rest_jax.tasks.builder import read_rows

    rows = sorted(read_rows(DATASET, data, folder)["test"], key=lambda row: row["index"])
    return Task(
        name=DATASET.name,
        corpus_file=None,
        splits={Split.REPORT: tuple(map(_question, rows))},
        metric=program_metric,
        slow_metric=True,
        voice=str.strip,
        version=DATASET.version,
        notes=NOTES,
    )


def _question(row: Row) -> Question:
    meta = {"before": row["prompt"], "after": row["tests"]}
    return Question(row["id"], row["prompt"], row["solution"], meta)
