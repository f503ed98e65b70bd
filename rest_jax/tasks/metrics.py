"""Exact match and F1 as HotpotQA's official script defines them (Yang et al. 2018, `hotpot_evaluate_v1.py`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from rest_jax.core.answers import normalise
from rest_jax.core.trajectory import Question

YES_NO = frozenset({"yes", "no"})
LABELS = ("SUPPORTS", "REFUTES", "NOT ENOUGH INFO")
"""What FEVER says of a claim (Thorne et al. 2018)."""
CONCLUSIONS = YES_NO | {normalise(label) for label in LABELS}
"""Normalised answers that are concluded from passages and stand in none."""
CLOSED_ANSWERS = YES_NO | {"noanswer"}


@dataclass(frozen=True)
class Score:
    """How well an answer matches the gold answer."""

    em: float
    """Exact match after normalisation: 0 or 1."""
    f1: float
    """Harmonic mean of token precision and recall after normalisation, in [0, 1]."""


Metric = Callable[[str | None, Question], Score]
"""How a task scores an answer (None: the agent never answered) to a question."""


def score_answer(answer: str | None, *golds: str) -> Score:
    """Score an answer: each of EM and F1 is the best over the gold answers, as SQuAD and NQ-open have it.

    None (the agent never answered) scores 0 whatever the gold answers are, and so does any answer where there are none.
    """
    if answer is None:
        return Score(0.0, 0.0)
    said, wanted = normalise(answer), [normalise(gold) for gold in golds]
    return Score(float(said in wanted), max((_f1(said, one) for one in wanted), default=0.0))


def answer_metric(answer: str | None, question: Question) -> Score:
    """EM and F1 over the question's gold answers."""
    return score_answer(answer, *question.golds)


def label_metric(answer: str | None, question: Question) -> Score:
    """Accuracy: 1 for the question's label, else 0, as EM and as F1; half a label is none."""
    right = float(answer is not None and normalise(answer) == normalise(question.answer))
    return Score(right, right)


def is_conclusion(answer: str | None) -> bool:
    """Whether an answer is yes, no or a label, which no passage says."""
    return answer is not None and normalise(answer) in CONCLUSIONS


def _f1(said: str, wanted: str) -> float:
    if said != wanted and not CLOSED_ANSWERS.isdisjoint((said, wanted)):
        return 0.0
    said_tokens, wanted_tokens = said.split(), wanted.split()
    common = (Counter(said_tokens) & Counter(wanted_tokens)).total()
    if common == 0:
        return 0.0
    precision, recall = common / len(said_tokens), common / len(wanted_tokens)
    return 2 * precision * recall / (precision + recall)
