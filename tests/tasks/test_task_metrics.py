"""The HotpotQA metric against hard strings; expected values worked out by hand from `hotpot_evaluate_v1.py`."""

from __future__ import annotations

import pytest

from rest_jax.tasks.metrics import Score, normalise, score_answer

NORMALISED = [
    ("The Beatles", "beatles"),
    ("  a  An THE  ", ""),
    ("the-end", "theend"),  # punctuation goes first, and then "the" is no word of its own
    ("U.S.A.", "usa"),
    ("an-other", "another"),
    ("Theatre", "theatre"),
    ("A", ""),
    ("“The” Who", "“ ” who"),  # curly quotes are not in string.punctuation
    ("1,500", "1500"),
    ("$5.00", "500"),
    ("rock'n'roll", "rocknroll"),
    ("São Paulo", "são paulo"),
    ("İstanbul", "i̇stanbul"),
    ("a\tb\nc", "b c"),
    ("x_y", "xy"),
    ("–dash–", "–dash–"),
    ("", ""),
]

SCORED = [
    # answer, gold, em, f1
    ("The Chief of Protocol!", "chief of protocol", 1.0, 1.0),
    ("Chief Protocol", "Chief of Protocol", 0.0, 0.8),
    ("yes", "yes", 1.0, 1.0),
    ("Yes.", "yes", 1.0, 1.0),
    ("yes", "no", 0.0, 0.0),
    ("yes it is", "yes", 0.0, 0.0),  # one side is closed and they differ: no partial credit
    ("yes", "yes it is", 0.0, 0.0),
    ("no answer", "noanswer", 0.0, 0.0),
    ("noanswer", "noanswer", 1.0, 1.0),
    ("no way out", "no way in", 0.0, 2 / 3),  # neither side *is* "no"
    ("new york new york", "new york", 0.0, 2 / 3),
    ("new york", "new new york", 0.0, 0.8),
    ("", "the", 1.0, 0.0),  # both normalise to nothing: equal, yet with no token in common
    ("", "Paris", 0.0, 0.0),
    (None, "", 0.0, 0.0),
    ("1,500", "1500", 1.0, 1.0),
    ("1 500", "1500", 0.0, 0.0),
    ("b a", "a b", 1.0, 1.0),  # "a" is an article
    ("b c", "c b", 0.0, 1.0),
    ("Song of Marnel", "Tale of Marnel", 0.0, 2 / 3),
]


@pytest.mark.parametrize(("text", "expected"), NORMALISED)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize(("answer", "gold", "em", "f1"), SCORED)
def test_score(answer: str | None, gold: str, em: float, f1: float) -> None:
    assert score_answer(answer, gold) == Score(em, pytest.approx(f1, abs=1e-12))
