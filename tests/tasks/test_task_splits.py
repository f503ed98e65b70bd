"""Who may read what, and what is written down about it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rest_jax.core.demonstration import Demonstration, Turn
from rest_jax.core.effects import Status
from rest_jax.core.errors import UserError
from rest_jax.core.trajectory import Question, Trajectory
from rest_jax.tasks.metrics import Score
from rest_jax.tasks.splits import Reader, Split, SplitRead
from rest_jax.tasks.task import Task

TRAJECTORY = Trajectory(
    "q", "Who?", 0, 0, 1, "react", "toy", "train", Status.FINISHED, "x", "", (), (), "tokenizer", "weights"
)


@pytest.fixture
def task(tmp_path: Path) -> Task:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"title": "t", "text": "x"}\n')
    splits = {split: (Question(f"{split}-0", "Who?", "x", {"level": "easy"}),) for split in Split}
    gold = tuple(Demonstration(Question(f"d{i}", "Who?", "x"), (Turn("t", "finish", "x"),)) for i in range(9))
    return Task("toy", corpus, splits, {"gold": gold}, gold[:1])


def test_training_reads_train_alone_and_reports_are_for_evaluation(task: Task) -> None:
    allowed = {(reader, split) for reader in Reader for split in Split if _reads(task, split, reader)}
    assert allowed == {
        (Reader.TRAINING, Split.TRAIN),
        (Reader.SELECTION, Split.TRAIN),
        (Reader.SELECTION, Split.SELECT),
        (Reader.EVALUATION, Split.TRAIN),
        (Reader.EVALUATION, Split.SELECT),
        (Reader.EVALUATION, Split.REPORT),
    }


def _reads(task: Task, split: Split, reader: Reader) -> bool:
    try:
        return bool(task.questions(split, reader))
    except UserError:
        return False


def test_a_refusal_says_what_to_do(task: Task) -> None:
    with pytest.raises(UserError, match=r"split 'report': selection may not read it.*read train or select instead"):
        task.questions("report", Reader.SELECTION)
    with pytest.raises(UserError, match="split 'test': there is none of this name; use one of train, select, report"):
        task.questions("test", Reader.EVALUATION)


def test_reads_are_recorded_and_refused_ones_are_not(task: Task) -> None:
    task.questions("select", Reader.SELECTION)
    task.demonstrations("gold", 3, seed=0)
    assert not _reads(task, Split.REPORT, Reader.TRAINING)
    assert task.reads.drain() == (
        SplitRead("toy", Split.SELECT, Reader.SELECTION, 1),
        SplitRead("toy", Split.TRAIN, Reader.TRAINING, 3),
    )
    assert task.reads.drain() == ()


def test_fewer_demonstrations_are_the_first_of_more(task: Task) -> None:
    assert task.demonstrations("gold", 3, seed=1) == task.demonstrations("gold", 9, seed=1)[:3]
    assert task.demonstrations("gold", 9, seed=1) != task.demonstrations("gold", 9, seed=2)


def test_what_is_not_there(task: Task) -> None:
    with pytest.raises(UserError, match="'gold' has 9 demonstrations, 10 wanted"):
        task.demonstrations("gold", 10, seed=0)
    with pytest.raises(UserError, match="no demonstrations called 'silver'; it has gold"):
        task.demonstrations("silver", 1, seed=0)
    with pytest.raises(UserError, match="it has 1 worked examples, 2 wanted"):
        task.shots(2)


def test_the_first_n_questions_are_all_there_or_refused(task: Task) -> None:
    assert len(task.questions("train", Reader.TRAINING, 1)) == 1
    for n in (0, -1, 2):
        with pytest.raises(UserError, match=f"'toy': {n} questions of train wanted, it has 1; ask for 1 to 1"):
            task.questions("train", Reader.TRAINING, n)
    assert task.reads.drain() == (SplitRead("toy", Split.TRAIN, Reader.TRAINING, 1),)


def test_a_task_holds_its_rewards_to_their_bounds(task: Task) -> None:
    wild = replace(task, metric=lambda answer, question: Score(1.0, 7.0))
    with pytest.raises(UserError, match=r"reward 'default' of trajectory q#0: 7\.0"):
        wild.reward("default")(TRAJECTORY, Question("q", "Who?", "x"))
