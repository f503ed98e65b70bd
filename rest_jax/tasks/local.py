"""A task from two files of the user's own, for evaluation alone."""

from __future__ import annotations

from pathlib import Path

from rest_jax.core.errors import UserError
from rest_jax.core.trajectory import Question
from rest_jax.tasks.files import read_jsonl
from rest_jax.tasks.splits import Split
from rest_jax.tasks.task import Task
from rest_jax.tools.search.corpus import read_corpus


def local(questions: Path, corpus: Path) -> Task:
    """A task whose report split is `questions`, JSONL of `{"id", "question", "answer"}` in the file's order, over
    `corpus`, JSONL of `{"title", "text"}` or `{"id", "contents"}`. Further keys of a question go into its `meta`.

    Raises UserError that names file and line for a malformed line or an id that comes twice.
    """
    read_corpus(corpus)
    return Task(
        name="local",
        corpus_file=corpus,
        splits={Split.REPORT: read_questions(questions)},
        notes={"corpus": corpus.name, "questions": questions.name},
    )


def read_questions(path: Path) -> tuple[Question, ...]:
    """The questions of a JSONL file of `{"id", "question", "answer"}`, and perhaps `"alternatives"`, further golds."""
    read: dict[str, Question] = {}
    for row in read_jsonl(path, {"id": str, "question": str, "answer": str}, "question"):
        id, text, answer, others = row.pop("id"), row.pop("question"), row.pop("answer"), row.pop("alternatives", [])
        if not (isinstance(others, list) and all(isinstance(other, str) for other in others)):
            raise UserError(f"{path}: the alternatives of question '{id}' are no list of texts; write [\"…\", …]")
        if id in read:
            raise UserError(f"{path}: the id '{id}' comes twice; give every question its own")
        read[id] = Question(id, text, answer, row, tuple(others))
    if not read:
        raise UserError(f'{path}: no questions; a line is {{"id", "question", "answer"}}')
    return tuple(read.values())
