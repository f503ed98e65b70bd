"""GSM8K (Cobbe et al. 2021): word problems of grade school, each with a solution that ends in a number."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from rest_jax.core.demonstration import Demonstration, Turn
from rest_jax.core.errors import UserError
from rest_jax.core.trajectory import Question
from rest_jax.tasks.files import read_jsonl
from rest_jax.tasks.leaks import HeldOut, without_leaks
from rest_jax.tasks.numbers import number, number_metric, number_voice
from rest_jax.tasks.published import Dataset, File, Row, divided
from rest_jax.tasks.splits import Split
from rest_jax.tasks.task import Task
from rest_jax.tasks.worked import worked_examples

SELECT = 500
"""Train questions that are set aside to choose on."""
CALCULATION = re.compile(r"<<[^>]*>>")
"""What the authors' calculator was told, in the middle of a solution."""
MARK = "####"

PLACE = (
    "https://raw.githubusercontent.com/openai/grade-school-math/3101c7d5072418e28b9008a6636bde82a006892c/"
    "grade_school_math/data/"
)


def parse(path: Path) -> Iterator[Row]:
    """The questions of a file, named by their place in it."""
    for place, row in enumerate(read_jsonl(path, {"question": str, "answer": str}, "question")):
        solution, mark, answer = row["answer"].rpartition(MARK)
        if not mark or number(answer) is None:
            raise UserError(f"{path}: question {place}: its answer does not end in '{MARK} NUMBER'; correct it")
        yield {"id": f"{place:04d}", "question": row["question"], "solution": solution, "answer": answer.strip()}


DATASET = Dataset(
    name="gsm8k",
    homepage="https://github.com/openai/grade-school-math",
    files={
        "train": File(
            "train.jsonl",
            f"{PLACE}train.jsonl",
            4_166_206,
            "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465",
        ),
        "test": File(
            "test.jsonl",
            f"{PLACE}test.jsonl",
            749_738,
            "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
        ),
    },
    fields=dict.fromkeys(("id", "question", "solution", "answer"), str),
    parse=parse,
)


def gsm8k(data: Path | None, folder: Path) -> Task:
    """The 1,319 test questions as report; 500 of the train questions are select, and the others, with their solutions
    as demonstrations, train."""
    from rest_jax.tasks.builder import read_rows

    rows = read_rows(DATASET, data, folder)
    report = tuple(_question("test", row) for row in rows["test"])
    solved = {f"gsm8k-train-{row['id']}": row["solution"] for row in rows["train"]}
    learnt, dropped = without_leaks([_question("train", row) for row in rows["train"]], HeldOut.of(report))
    select, train = divided(learnt, SELECT)
    return Task(
        name=DATASET.name,
        corpus_file=None,
        splits={Split.TRAIN: train, Split.SELECT: select, Split.REPORT: report},
        sources={"gold": tuple(_demonstration(question, solved[question.id]) for question in train)},
        examples=worked_examples("word_problems"),
        metric=number_metric,
        voice=number_voice,
        version=DATASET.version,
        notes={"metric": "the answer's number, exactly", "train_dropped_for_overlap_with_test": dropped},
    )


def _question(split: str, row: Row) -> Question:
    return Question(f"gsm8k-{split}-{row['id']}", row["question"], row["answer"])


def _demonstration(question: Question, solution: str) -> Demonstration:
    """The published solution as one thought, its lines joined."""
    thought = " ".join(CALCULATION.sub("", solution).split())
    return Demonstration(question, (Turn(thought, "finish", question.answer),))
