"""No report question in anything that is learnt, and no gold answer in a prompt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rest_jax.core.errors import UserError
from rest_jax.core.trajectory import Question
from rest_jax.tasks.leaks import HeldOut, answer_chain, refuse_learnt, refuse_shown, without_leaks
from rest_jax.tasks.splits import Split
from rest_jax.tasks.task import Task

REPORT = Question("r", "Who founded the home of Kel?", "Orr", {"titles": ["Kel", "Vell"], "path": ["Vell", "Orr"]})
SAME = Question("t", "who founded home of Kel", "Orr")
REWORDED = Question("t", "Kel lives somewhere. Who founded it?", "Orr", {"path": ["vell", "Orr."]})
SHARED = Question("t", "Who is Kel?", "a mayor", {"titles": ["Kel"]})
OTHER = Question("t", "Who is Dor?", "Orr", {"titles": ["Dor"], "path": ["Orr"]})


@pytest.mark.parametrize(
    ("question", "shares"),
    [(SAME, "question"), (REWORDED, "answer chain"), (SHARED, "gold page"), (OTHER, "")],
)
def test_what_gives_a_held_out_question_away(question: Question, shares: str, tmp_path: Path) -> None:
    assert HeldOut.of([REPORT]).leak(question) == shares
    for split in (Split.SELECT, Split.REPORT):
        task = Task("toy", None, {Split.TRAIN: (question,), split: (REPORT,)})
        if not shares:
            refuse_learnt(task)
            continue
        with pytest.raises(
            UserError, match=f"task 'toy': train question t has the {shares} of a question that is held"
        ):
            refuse_learnt(task)


def test_train_questions_that_leak_are_dropped_and_counted() -> None:
    kept, dropped = without_leaks([SAME, OTHER, SHARED, SAME], HeldOut.of([REPORT]))
    assert kept == (OTHER,)
    assert dropped == {"question": 2, "gold page": 1}


def test_chains_that_are_not_known_are_not_equal() -> None:
    assert answer_chain(SAME) is None
    assert HeldOut.of([SAME]).leak(Question("x", "Where?", "Orr")) == ""


def test_a_worked_example_is_none_of_the_questions_asked() -> None:
    refuse_shown([SAME.text], [OTHER])
    with pytest.raises(UserError, match="question r: a worked example of the prompt asks the same and answers it"):
        refuse_shown([SAME.text], [OTHER, REPORT])


def test_an_agent_is_not_told_the_answer() -> None:
    question = replace(REPORT, alternatives=("Ada Orr",))
    assert question.golds == ("Orr", "Ada Orr")
    assert question.blind == Question("r", REPORT.text, "")
    assert question.blind.golds == ()
