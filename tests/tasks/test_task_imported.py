"""Demonstrations by other authors: read strictly, and never a held-out question."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rest_jax.core.errors import UserError
from rest_jax.core.trajectory import Question
from rest_jax.tasks.imported import read_imported, with_imported
from rest_jax.tasks.splits import Split
from rest_jax.tasks.task import Task

FINISH = {"thought": "So.", "action": "finish", "argument": "Oslo"}
SEARCH = {"thought": "I look.", "action": "search", "argument": "Norway"}


def written(folder: Path, *rows: object) -> Path:
    path = folder / "imported.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_last_turn_answers_and_copies_count_once(tmp_path: Path) -> None:
    row = {"question": "Which capital?", "turns": [SEARCH, FINISH], "licence": "CC0"}
    other = {**row, "turns": [FINISH]}
    first, second = read_imported(written(tmp_path, row, row, other))
    assert (first.question.text, first.question.answer) == ("Which capital?", "Oslo")
    assert [turn.action for turn in first.turns] == ["search", "finish"]
    assert first.question.id != second.question.id


def test_a_held_out_question_is_left_out_and_counted(tmp_path: Path) -> None:
    task = Task("t", None, {Split.REPORT: (Question("r", "The which capital", "Oslo"),)})
    path = written(tmp_path, *({"question": text, "turns": [FINISH]} for text in ("Which capital?", "Which town?")))
    imported = with_imported(task, path)
    assert [one.question.text for one in imported.sources["imported"]] == ["Which town?"]
    assert imported.notes["imported"] == {"demonstrations": 1, "dropped_held_out": 1}


@pytest.mark.parametrize(
    "row",
    [
        {"turns": [FINISH]},
        {"question": "Q", "turns": []},
        {"question": "Q", "turns": [SEARCH]},
        {"question": "Q", "turns": [FINISH, FINISH]},
        {"question": " ", "turns": [FINISH]},
        {"question": "Q", "turns": [{**SEARCH, "action": "rm"}, FINISH]},
        {"question": "Q", "turns": [{**FINISH, "argument": ""}]},
        {"question": "Q", "turns": ["finish"]},
    ],
)
def test_what_is_no_demonstration_is_named_by_its_line(tmp_path: Path, row: object) -> None:
    good = {"question": "Q", "turns": [FINISH]}
    path = written(tmp_path, good, row)
    with pytest.raises(UserError, match=rf"{path}:2: malformed demonstration"):
        read_imported(path)
