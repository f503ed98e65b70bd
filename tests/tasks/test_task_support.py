"""What a corpus can support, and what is refused because it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from rest_jax.core.trajectory import Question
from rest_jax.tasks.metrics import answer_metric
from rest_jax.tasks.support import Support, standing_in, support
from rest_jax.tools.search.corpus import Passage

PASSAGES = [Passage("Tolven", "A town. The mayor is Kel Dorim."), Passage("Orn (river)", "A river, 1,500 km long.")]


def asked(answer: str, *alternatives: str, **meta: object) -> Question:
    return Question("q", "?", answer, meta, alternatives)


@pytest.mark.parametrize(
    ("question", "told"),
    [
        (asked("Kel Dorim"), (1, 1)),
        (asked("kel dorim!"), (1, 1)),
        (asked("Dor"), (0, 1)),
        (asked("Dorim Orn"), (0, 1)),  # no passage goes on in the next one
        (asked("1500 km"), (1, 1)),
        (asked("Orn river"), (1, 1)),  # a title counts
        (asked("Sarn", "the mayor"), (1, 1)),
        (asked(""), (0, 0)),
        (asked("yes"), (0, 0)),
        (asked("yes", titles=["Tolven", "Orn (river)"]), (1, 1)),
        (asked("no", titles=["Tolven", "Sarn"]), (0, 1)),
        (asked("SUPPORTS", titles=["Sarn", "Tolven"], evidence=[["Sarn"], ["Tolven"]]), (1, 1)),
        (asked("REFUTES", titles=["Sarn", "Tolven"], evidence=[["Sarn", "Tolven"]]), (0, 1)),
        (asked("NOT ENOUGH INFO", titles=[], evidence=[]), (0, 0)),
    ],
)
def test_support(question: Question, told: tuple[int, int]) -> None:
    assert support([question], PASSAGES) == Support(*told, questions=1)


def test_what_stands_in_a_passage_stands_there_as_whole_words() -> None:
    answers = {"mayor is kel", "kel", "ke", "town mayor", "town", "", "dorim orn"}
    assert standing_in(answers, PASSAGES) == {"mayor is kel", "kel", "town mayor", "town"}


@pytest.mark.parametrize(
    ("found", "suffices", "said"),
    [
        (Support(90, 100, 100), True, "the corpus supports 90/100 answers (90.0 %)"),
        (Support(89, 100, 120), False, "the corpus supports 89/100 answers (89.0 %); of 20 it is not known"),
        (Support(0, 0, 7), True, "whether the corpus supports the answers is not known (0 of 7)"),
    ],
)
def test_nine_in_ten_suffice(found: Support, suffices: bool, said: str) -> None:
    assert (found.suffices, str(found)) == (suffices, said)


def test_the_best_of_several_golds_counts() -> None:
    question = asked("14 December 1972 UTC", "December 1972")
    assert answer_metric("December 1972", question).em == 1.0
    assert answer_metric("14 December 1972", question).f1 == pytest.approx(6 / 7)


def test_the_hotpotqa_corpus_supports_few_claims_of_fever(data: Path, tmp_path: Path) -> None:
    from rest_jax.tasks.fever import fever
    from rest_jax.tools.search.corpus import read_corpus

    made = fever(data, tmp_path)
    passages = read_corpus(data / "hotpotqa" / "hotpot_corpus.jsonl").passages
    found = support([q for split in made.splits.values() for q in split], passages)
    assert (found.known, found.questions) == (6666, 9999)
    assert not found.suffices
