"""NQ-open (Lee et al. 2019): questions of search users whose short answers stand in Wikipedia."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rest_jax.core.answers import normalise
from rest_jax.tasks.files import read_jsonl
from rest_jax.tasks.published import Dataset, File, Row, halves, with_golds
from rest_jax.tasks.task import Task
from rest_jax.tasks.worked import worked_examples


def parse(path: Path) -> Iterator[Row]:
    """The questions of a file, named by their place in it."""
    for number, row in enumerate(read_jsonl(path, {"question": str, "answer": list}, "question")):
        yield {"id": f"nq-{number:04d}", "question": row["question"], "answers": row["answer"]}


DATASET = Dataset(
    name="nq",
    homepage="https://github.com/google-research-datasets/natural-questions/tree/master/nq_open",
    files={
        "validation": File(
            "NQ-open.dev.jsonl",
            "https://raw.githubusercontent.com/google-research-datasets/natural-questions/"
            "fb26a3073b1fe636c97302890a27b491d6530130/nq_open/NQ-open.dev.jsonl",
            391_316,
            "f15567f38099f3615f5b8a685c0aef449c11ad90d3da3735e8d1b98115b40616",
        )
    },
    fields={"id": str, "question": str, "answers": list},
    parse=parse,
)


def nq_open(data: Path | None, folder: Path) -> Task:
    """The 3,610 development questions; every answer that an annotator gave is gold.

    Two are left out and counted, whose golds are "---" and ")": normalised, nothing of them is left to compare.
    """
    from rest_jax.tasks.builder import read_rows

    rows = read_rows(DATASET, data, folder)["validation"]
    questions = [with_golds(row["id"], row["question"], row["answers"]) for row in rows]
    scorable = [question for question in questions if any(map(normalise, question.golds))]
    return Task(
        name="nq_open",
        corpus_file=None,
        splits=halves(scorable),
        examples=worked_examples("qa"),
        version=DATASET.version,
        notes={
            "corpus": "all of Wikipedia, which is not brought along",
            "left_out_for_golds_without_words": len(questions) - len(scorable),
        },
    )
