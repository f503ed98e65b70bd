"""ELI5 (Fan et al. 2019): questions that want a long answer and have no gold one. Its official source is gone: the
questions have to be given."""

from __future__ import annotations

from pathlib import Path

from rest_jax.core.trajectory import Question
from rest_jax.tasks.files import read_jsonl
from rest_jax.tasks.published import Dataset, File
from rest_jax.tasks.splits import Split
from rest_jax.tasks.task import Task
from rest_jax.tasks.worked import worked_examples

FIELDS = {"id": str, "question": str}
DATASET = Dataset(
    name="eli5",
    homepage="no place any more",
    files={"train": File("eli5.jsonl")},
    fields=FIELDS,
    parse=lambda path: read_jsonl(path, FIELDS, "question"),
)


def eli5(data: Path | None, folder: Path) -> Task:
    """The questions of `data/eli5/eli5.jsonl`. Nothing here can score what they are answered, so there is no split to
    measure on."""
    from rest_jax.tasks.builder import read_rows

    rows = read_rows(DATASET, data, folder)["train"]
    return Task(
        name=DATASET.name,
        corpus_file=None,
        splits={Split.TRAIN: tuple(Question(row["id"], row["question"], "") for row in rows)},
        examples=worked_examples("qa"),
        version=DATASET.version,
        notes={"gold_answers": "none"},
    )
