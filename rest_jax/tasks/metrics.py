"""Exact match and F1 as HotpotQA's official script defines them (Yang et al. 2018, `hotpot_evaluate_v1.py`)."""

from __future__ import annotations

import re
import string
from collections import Counter
from dataclasses import dataclass

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
YES_NO = frozenset({"yes", "no"})
CLOSED_ANSWERS = YES_NO | {"noanswer"}


@dataclass(frozen=True)
class Score:
    """How well an answer matches the gold answer."""

    em: float
    """Exact match after normalisation: 0 or 1."""
    f1: float
    """Harmonic mean of token precision and recall after normalisation, in [0, 1]."""


def normalise(answer: str) -> str:
    """Lower case, then ASCII punctuation out, then the articles out, then single spaces: in this order, as the official
    script does (so "the-end" becomes "theend", and its article stays)."""
    return " ".join(ARTICLES.sub(" ", answer.lower().translate(PUNCTUATION)).split())


def score_answer(answer: str | None, gold: str) -> Score:
    """Score an answer; None (the agent never answered) scores 0 whatever the gold answer is."""
    if answer is None:
        return Score(0.0, 0.0)
    said, wanted = normalise(answer), normalise(gold)
    return Score(float(said == wanted), _f1(said, wanted))


def _f1(said: str, wanted: str) -> float:
    if said != wanted and not CLOSED_ANSWERS.isdisjoint((said, wanted)):
        return 0.0
    said_tokens, wanted_tokens = said.split(), wanted.split()
    common = (Counter(said_tokens) & Counter(wanted_tokens)).total()
    if common == 0:
        return 0.0
    precision, recall = common / len(said_tokens), common / len(wanted_tokens)
    return 2 * precision * recall / (precision + recall)
