"""Answers as they are compared: normalised, and put to the vote."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)

Voice = Callable[[str], Hashable]
"""What makes two answers one in a vote (`Task.voice`)."""


def normalise(answer: str) -> str:
    """Lower case, then ASCII punctuation out, then the articles out, then single spaces: in this order, as HotpotQA's
    official script does (so "the-end" becomes "theend", and its article stays)."""
    return " ".join(ARTICLES.sub(" ", answer.lower().translate(PUNCTUATION)).split())


@dataclass(frozen=True)
class Vote:
    """The commonest of several answers."""

    first: int
    """Where it stands first."""
    count: int
    """How many said it."""


def majority(answers: Sequence[str | None], voice: Voice = normalise) -> Vote | None:
    """The vote of answers (None: no answer, and no voice); of equals the one said first. None when nobody answered.

    Answers are one when their `voice` is: normalised words, unless a task compares otherwise.
    """
    said = [None if answer is None else voice(answer) for answer in answers]
    voices = Counter(answer for answer in said if answer is not None)
    if not voices:
        return None
    # A Counter keeps the order of first appearance, and max takes the first of equals.
    winner = max(voices, key=lambda answer: voices[answer])
    return Vote(said.index(winner), voices[winner])
