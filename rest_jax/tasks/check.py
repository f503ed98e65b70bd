"""Does a task hold together? Gold answers through its own metric, and answers against a corpus."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rest_jax.core.trajectory import Question
from rest_jax.tasks.splits import Reader
from rest_jax.tasks.support import Support, support
from rest_jax.tasks.task import Task
from rest_jax.tools.search.corpus import read_corpus


@dataclass(frozen=True)
class CheckResult:
    """What `check` found, over the questions of all splits."""

    questions: int
    answered: int
    """Those with a gold answer."""
    gold_correct: int
    """Those of which the metric gives every gold answer EM 1, and one of them F1 1."""
    failed: tuple[str, ...]
    """Ids of the others."""
    corpus: Path | None
    passages: int
    support: Support | None
    """None without a corpus."""

    @property
    def ok(self) -> bool:
        return self.gold_correct == self.answered

    def lines(self) -> tuple[str, ...]:
        """The result for a person: "N/N" first."""
        without = self.questions - self.answered
        unanswered = f"; {without} questions have no gold answer" if without else ""
        right = f"{self.gold_correct}/{self.answered} gold answers are right by the task's metric{unanswered}"
        if self.corpus is None:
            return right, "no corpus of its own: --corpus FILE tells what that one supports"
        return right, f"{self.support}: {self.corpus.name}, {self.passages} passages"


def check(task: Task, corpus: Path | None = None) -> CheckResult:
    """Check all splits of a task; `corpus` replaces the task's own, where it has one."""
    questions = [question for split in task.splits for question in task.questions(split, Reader.EVALUATION)]
    answered = [question for question in questions if question.golds]
    failed = [question.id for question in answered if not _is_right(task, question)]
    path = corpus or task.corpus_file
    passages = read_corpus(path).passages if path else ()
    return CheckResult(
        questions=len(questions),
        answered=len(answered),
        gold_correct=len(answered) - len(failed),
        failed=tuple(failed),
        corpus=path,
        passages=len(passages),
        support=support(questions, passages) if path else None,
    )


def _is_right(task: Task, question: Question) -> bool:
    scores = [task.score(gold, question) for gold in question.golds]
    return all(score.em == 1.0 for score in scores) and any(score.f1 == 1.0 for score in scores)
