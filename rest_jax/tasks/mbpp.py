"""MBPP (Austin et al. 2021): small programs to be written from a sentence and three tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rest_jax.core.demonstration import Demonstration, Turn
from rest_jax.core.trajectory import Question
from rest_jax.tasks.files import read_jsonl
from rest_jax.tasks.leaks import HeldOut, without_leaks
from rest_jax.tasks.programs import NOTES, program_metric
from rest_jax.tasks.published import Dataset, File, Row
from rest_jax.tasks.splits import Split
from rest_jax.tasks.task import Task

FIELDS = {"task_id": int, "text": str, "code": str, "test_setup_code": str, "test_list": list}

PLACES = {Split.TRAIN: range(601, 975), Split.SELECT: range(511, 601), Split.REPORT: range(11, 511)}
"""The published ids of train, validation and test; 1 to 10 are set aside for prompts (section 2.1)."""


def parse(path: Path) -> Iterator[Row]:
    """The tasks of a file."""
    for row in read_jsonl(path, FIELDS, "task"):
        yield {
            "id": f"{row['task_id']:04d}",
            "text": row["text"],
            "code": row["code"],
            "setup": row["test_setup_code"],
            "tests": row["test_list"],
        }


DATASET = Dataset(
    name="mbpp",
    homepage="https://github.com/google-research/google-research/tree/master/mbpp",
    files={"full": File("mbpp.jsonl")},
    fields={**dict.fromkeys(("id", "text", "code", "setup"), str), "tests": list},
    parse=parse,
)


def mbpp(data: Path | None, folder: Path) -> Task:
    """MBPP in its published splits, its train programs as demonstrations. A question shows its tests, as in the paper:
    the sentence alone does not name the function."""
    from rest_jax.tasks.builder import read_rows

    rows = read_rows(DATASET, data, folder)["full"]
    splits = {split: _questions(rows, place) for split, place in PLACES.items()}
    held_out = HeldOut.of([*splits[Split.SELECT], *splits[Split.REPORT]])
    splits[Split.TRAIN], dropped = without_leaks(splits[Split.TRAIN], held_out)
    return Task(
        name=DATASET.name,
        corpus_file=None,
        splits=splits,
        sources={"gold": tuple(Demonstration(one, (Turn("", "finish", one.answer),)) for one in splits[Split.TRAIN])},
        metric=program_metric,
        slow_metric=True,
        voice=str.strip,
        version=DATASET.version,
        notes={
            **NOTES,
            "train_dropped_for_overlap_with_the_rest": dropped,
        },
    )


def _questions(rows: Sequence[Row], place: range) -> tuple[Question, ...]:
    return tuple(_question(row) for row in rows if int(row["id"]) in place)


def _question(row: Row) -> Question:
    tests = "\n".join(row["tests"])
    meta = {"before": "", "after": f"{row['setup']}\n{tests}"}
    return Question(f"mbpp-{row['id']}", f"{row['text']} It has to pass these tests:\n{tests}", row["code"], meta)
