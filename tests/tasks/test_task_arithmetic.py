"""Arithmetic: the same words anywhere, every answer what its sums come to, no sum in two splits."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

from rest_jax.config.settings import TaskSettings
from rest_jax.tasks.arithmetic import EXAMPLES, SHAPES, SIZES, arithmetic
from rest_jax.tasks.check import check
from rest_jax.tasks.registry import task as open_task
from rest_jax.tasks.splits import Split

SUM = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")
TASK = arithmetic()
PINNED = {
    "task": "arithmetic",
    "version": "1+seed7",
    "corpus": "absent",
    "train_questions": "ccc69856e6d46840a846a982aaf0ca317efe6c7645cebf9a48472ce4b98645d4",
    "select_questions": "2815197fde7369ba33e00f73155d4a1523e6ffe7e12559741ffbc3fe97a8700a",
    "report_questions": "059992564c56d17c7b3838e64ff4d4770843939c29be6ad1c311a8c3d1e54a81",
}


def worth(left: int, sign: str, right: int) -> float:
    return {"+": left + right, "-": left - right, "*": left * right, "/": left / right}[sign]


def test_the_seed_decides_every_word(tmp_path: Path) -> None:
    """A change here changes every figure measured on it: raise `version` with it."""
    digests = open_task(TaskSettings("arithmetic"), tmp_path).digests()
    assert digests == PINNED
    assert arithmetic(8).digests()["train_questions"] != digests["train_questions"]
    assert open_task(TaskSettings("arithmetic", seed=8), tmp_path).digests() == arithmetic(8).digests()


def test_every_answer_is_what_its_sums_come_to() -> None:
    for demonstration in (*TASK.sources["gold"], *TASK.examples):
        thought, question = demonstration.turns[0].thought, demonstration.question
        sums = SUM.findall(thought)
        assert thought == ". ".join(f"{a} {sign} {b} = {c}" for a, sign, b, c in sums) + "."
        assert all(worth(int(a), sign, int(b)) == int(c) for a, sign, b, c in sums)
        assert [first[3] for first in sums[:-1]] == [second[0] for second in sums[1:]]
        assert (question.answer, question.meta["level"]) == (sums[-1][3], str(len(sums)))
        told = set(re.findall(r"\d+", question.text))
        results = {c for *_, c in sums}
        assert told | results >= {number for a, _, b, _ in sums for number in (a, b)}


def test_sizes_and_shapes() -> None:
    assert {split: len(questions) for split, questions in TASK.splits.items()} == SIZES
    assert len(TASK.examples) == EXAMPLES
    for questions in TASK.splits.values():
        levels = [question.meta["level"] for question in questions]
        assert levels == [("1", "2", "1", "2", "1", "2", "2", "2")[n % len(SHAPES)] for n in range(len(levels))]


def test_no_question_and_no_numbers_stand_in_two_splits() -> None:
    def numbers(split: Split) -> set[tuple[str, ...]]:
        return {(q.meta["level"], *re.findall(r"\d+", q.text), q.answer) for q in TASK.splits[split]}

    for one, other in combinations(Split, 2):
        assert numbers(one).isdisjoint(numbers(other))
        assert {q.text for q in TASK.splits[one]}.isdisjoint(q.text for q in TASK.splits[other])


def test_gold_answers_by_its_own_metric() -> None:
    found = check(TASK)
    assert (found.gold_correct, found.answered) == (1600, 1600)
