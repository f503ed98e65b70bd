"""Does a task hold together? Gold answers through its own metric, and answers against its corpus."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rest_jax.tasks.metrics import YES_NO, normalise
from rest_jax.tasks.splits import Reader
from rest_jax.tasks.task import Task
from rest_jax.tools.search.corpus import read_corpus


@dataclass(frozen=True)
class CheckResult:
    """What `check` found, over the questions of all splits."""

    questions: int
    gold_correct: int
    """Gold answers that the metric gives EM 1 and F1 1."""
    failed: tuple[str, ...]
    """Ids of the others."""
    corpus: Path
    passages: int
    supported: int
    """Answers that occur in some passage (normalised, whole words); yes and no count as supported."""

    @property
    def ok(self) -> bool:
        return self.gold_correct == self.questions

    def lines(self) -> tuple[str, str]:
        """The result for a person: "N/N" first."""
        return (
            f"{self.gold_correct}/{self.questions} gold answers are right by the task's metric",
            f"{self.supported}/{self.questions} answers occur in the {self.passages} passages of {self.corpus.name}",
        )


def check(task: Task, corpus: Path | None = None) -> CheckResult:
    """Check all splits of a task; `corpus` replaces the task's own for the second count."""
    questions = [question for split in task.splits for question in task.questions(split, Reader.EVALUATION)]
    scores = [task.score(question.answer, question) for question in questions]
    failed = [q.id for q, score in zip(questions, scores, strict=True) if (score.em, score.f1) != (1.0, 1.0)]
    path = corpus or task.corpus()
    passages = read_corpus(path).passages
    text = "\n".join(f" {normalise(f'{passage.title} {passage.text}')} " for passage in passages)
    answers = [normalise(question.answer) for question in questions]
    return CheckResult(
        questions=len(questions),
        gold_correct=len(questions) - len(failed),
        failed=tuple(failed),
        corpus=path,
        passages=len(passages),
        supported=sum(answer in YES_NO or f" {answer} " in text for answer in answers),
    )
