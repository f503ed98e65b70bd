"""MATH (Hendrycks et al. 2021): competition problems, split as by Lightman et al. 2023: 500 to report on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rest_jax.core.errors import UserError
from rest_jax.core.trajectory import Question
from rest_jax.tasks.expressions import expression_metric, expression_voice
from rest_jax.tasks.files import read_jsonl
from rest_jax.tasks.leaks import HeldOut, without_leaks
from rest_jax.tasks.numbers import boxed
from rest_jax.tasks.published import Dataset, File, Row, divided
from rest_jax.tasks.splits import Split
from rest_jax.tasks.task import Task
from rest_jax.tasks.worked import worked_examples

SELECT = 500


def parse(path: Path) -> Iterator[Row]:
    """The problems of a file, named by their place in it; one without an `answer` has it boxed in its solution."""
    for place, row in enumerate(read_jsonl(path, {"problem": str, "solution": str}, "problem")):
        answer = row.get("answer") or boxed(row["solution"].replace("\\fbox{", "\\boxed{"))
        if not answer:
            raise UserError(f"{path}: problem {place}: no answer, and its solution boxes none; correct it")
        level = str(row.get("level", "unknown")).removeprefix("Level ")
        yield {"id": f"{place:04d}", "problem": row["problem"], "answer": answer, "level": level}


DATASET = Dataset(
    name="math",
    homepage="https://github.com/hendrycks/math",
    files={
        "test": File(
            "math500.jsonl",
            "https://raw.githubusercontent.com/hkust-nlp/simpleRL-reason/cf1c7858bfc145a27aa733e75d930d34f0d318a6/"
            "examples/simplelr_math_eval/data/math500/test.jsonl",
            446_564,
            "35dc41080a3680858b27fa7e0533d2d547825316fc5dafe5d316f4ccc5a06132",
        ),
        "full": File(
            "math_test_5000.jsonl",
            "https://raw.githubusercontent.com/microsoft/ToRA/213c1c995038c73fab10343814df7a42f990f026/"
            "src/data/math/test.jsonl",
            4_101_364,
            "3371949f33dd702d04b43fddd7d53a028de0aaca0e76abb1b875a050297b3aa4",
        ),
    },
    fields=dict.fromkeys(("id", "problem", "answer", "level"), str),
    parse=parse,
)


def mathematics(data: Path | None, folder: Path) -> Task:
    """MATH-500 as report. Of the test set's other 4,500 problems, which its authors moved to train, 500 are select."""
    from rest_jax.tasks.builder import read_rows

    rows = read_rows(DATASET, data, folder)
    report = tuple(_question("500", row) for row in rows["test"])
    others, dropped = without_leaks([_question("test", row) for row in rows["full"]], HeldOut.of(report))
    select, train = divided(others, SELECT)
    return Task(
        name=DATASET.name,
        corpus_file=None,
        splits={Split.TRAIN: train, Split.SELECT: select, Split.REPORT: report},
        examples=worked_examples("mathematics"),
        metric=expression_metric,
        voice=expression_voice,
        version=DATASET.version,
        notes={
            "metric": "equal as written, layout and units aside, or worth the same; in the asked form",
            "train": "4,500 problems of the test set, without the 500 reported on; not the published train set",
            "test_set_dropped_for_overlap_with_report": dropped,
        },
    )


def _question(file: str, row: Row) -> Question:
    return Question(f"math-{file}-{row['id']}", row["problem"], row["answer"], {"level": row["level"]})
