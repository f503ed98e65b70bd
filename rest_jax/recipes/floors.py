"""Rows that no agent should fall below: closed book, the most frequent answer, the question as its own query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rest_jax.core.effects import Status
from rest_jax.core.trajectory import Question
from rest_jax.evaluation.records import Record
from rest_jax.tasks.metrics import Metric, is_conclusion

PLAYED = {"closed_book": "closed book", "question_as_query": "question as query"}
"""Floors that the prompted model plays: agent → name of the row."""
MOST_FREQUENT = "most frequent answer"


def most_frequent(train: Sequence[Question], asked: Sequence[Question], score: Metric) -> tuple[Record, ...]:
    """Every question answered with the train split's most frequent answer; ties go to the first in the alphabet."""
    counts = Counter(question.answer for question in train)
    answer = min(counts, key=lambda text: (-counts[text], text))
    judged = [(question, score(answer, question)) for question in asked]
    return tuple(
        Record(
            question_id=question.id,
            sample=0,
            seed=0,
            status=Status.FINISHED.value,
            answer=answer,
            em=result.em,
            f1=result.f1,
            well_formed=True,
            grounded=None if is_conclusion(question.answer) else 0.0,
            searches=0,
            model_tokens=0,
            masked=False,
        )
        for question, result in judged
    )
