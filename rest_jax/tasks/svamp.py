"""SVAMP (Patel et al. 2021): word problems of one or two steps, varied so that no keyword tells the operation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rest_jax.core.trajectory import Question
from rest_jax.tasks.numbers import number_metric, number_voice
from rest_jax.tasks.published import Dataset, File, Row, read_json
from rest_jax.tasks.splits import Split
from rest_jax.tasks.task import Task
from rest_jax.tasks.worked import worked_examples


def parse(path: Path) -> Iterator[Row]:
    """The questions of a file, each after what it is about. Their answers are written as numbers."""
    fields = {"ID": str, "Body": str, "Question": str, "Answer": (int, float), "Type": str}
    for row in read_json(path, fields, "question"):
        question = f"{row['Body'].strip().rstrip('.')}. {row['Question'].strip()}"
        answer = str(row["Answer"]).removesuffix(".0")
        yield {"id": row["ID"], "question": question, "answer": answer, "type": row["Type"]}


DATASET = Dataset(
    name="svamp",
    homepage="https://github.com/arkilpatel/SVAMP",
    files={"test": File("SVAMP.json")},
    fields=dict.fromkeys(("id", "question", "answer", "type"), str),
    parse=parse,
)


def svamp(data: Path | None, folder: Path) -> Task:
    """All of SVAMP, which is a test set."""
    from rest_jax.tasks.builder import read_rows

    rows = read_rows(DATASET, data, folder)["test"]
    return Task(
        name=DATASET.name,
        corpus_file=None,
        splits={Split.REPORT: tuple(map(_question, rows))},
        examples=worked_examples("word_problems"),
        metric=number_metric,
        voice=number_voice,
        version=DATASET.version,
        notes={"metric": "the answer's number, exactly"},
    )


def _question(row: Row) -> Question:
    return Question(f"svamp-{row['id']}", row["question"], row["answer"], {"level": row["type"]})
