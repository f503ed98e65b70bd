"""Bamboogle (Press et al. 2023) and BamTwoogle (Aksitov et al. 2023): two-hop questions that no single search answers.

Both are test sets, reported on as a whole. *ReST meets ReAct* chose on Bamboogle what it reports on it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from rest_jax.core.errors import UserError
from rest_jax.tasks.files import read_jsonl
from rest_jax.tasks.published import Dataset, File, Row, with_golds
from rest_jax.tasks.splits import Split
from rest_jax.tasks.task import Task
from rest_jax.tasks.worked import worked_examples

FIELDS = {"id": str, "question": str, "answer": str}
ALTERNATIVE = re.compile(r"(?P<answer>.+?) \((?:or )?(?P<other>[^()]+)\)")
HEADER = ["question", "answer"]


def parse_csv(path: Path) -> Iterator[Row]:
    """The rows of BamTwoogle's CSV, named by their place in it."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {error}; name a CSV file {','.join(HEADER)}") from error
    if rows[:1] != [HEADER] or any(len(row) != len(HEADER) for row in rows):
        raise UserError(f"{path}: malformed; it should be CSV with two columns and the header {','.join(HEADER)}")
    for number, (question, answer) in enumerate(rows[1:]):
        yield {"id": f"bamtwoogle_{number}", "question": question, "answer": answer}


BAMBOOGLE = Dataset(
    name="bamboogle",
    homepage="https://github.com/ofirpress/self-ask",
    files={"test": File("bamboogle.jsonl")},
    fields=FIELDS,
    parse=lambda path: read_jsonl(path, FIELDS, "question"),
)
BAMTWOOGLE = Dataset(
    name="bamtwoogle",
    homepage="https://github.com/google-research-datasets/BamTwoogle",
    files={"test": File("bamtwoogle.csv")},
    fields=FIELDS,
    parse=parse_csv,
)


def bamboogle(data: Path | None, folder: Path) -> Task:
    """Bamboogle's 125 questions."""
    return _test_set(BAMBOOGLE, data, folder)


def bamtwoogle(data: Path | None, folder: Path) -> Task:
    """BamTwoogle's 100 questions; what stands in brackets after an answer is another one."""
    return _test_set(BAMTWOOGLE, data, folder)


def golds(answer: str) -> tuple[str, ...]:
    """The answers in "Detroit Red Wings (or Red Wings)"."""
    found = ALTERNATIVE.fullmatch(answer)
    return (found["answer"], found["other"]) if found else (answer,)


def _test_set(dataset: Dataset, data: Path | None, folder: Path) -> Task:
    from rest_jax.tasks.builder import read_rows

    rows = read_rows(dataset, data, folder)["test"]
    questions = tuple(with_golds(row["id"], row["question"], golds(row["answer"])) for row in rows)
    return Task(
        name=dataset.name,
        corpus_file=None,
        splits={Split.REPORT: questions},
        examples=worked_examples("qa"),
        version=dataset.version,
        notes={"corpus": "all of Wikipedia or the web, which is not brought along"},
    )
