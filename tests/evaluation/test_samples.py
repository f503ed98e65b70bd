"""What several samples of a question come to."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from rest_jax.evaluation.records import Record
from rest_jax.evaluation.samples import learnable, passes, passing, toxicity
from rest_jax.evaluation.statistics import interval, value
from rest_jax.evaluation.table import to_json
from tests.evaluation.test_statistics import made


def drawn(*right: str) -> list[Record]:
    """A question for each, a sample for each letter: r is right, w wrong, m masked."""
    return [
        replace(made(question, float(letter == "r"), masked=letter == "m"), sample=sample)
        for question, letters in enumerate(right)
        for sample, letter in enumerate(letters)
    ]


def test_pass_at_1_is_the_mean_and_pass_at_k_whether_any_is_right() -> None:
    records = drawn("rwww", "wwww", "rrrr", "wwrw")
    first, several = passing(records, 1), passing(records, 4)
    assert (first.value, several.value) == (6 / 16, 3 / 4)
    assert first.ci == pytest.approx(interval(records, "em")), "clustered by question, as every rate"
    assert several.ci[0] < several.value < several.ci[1]
    assert first.questions == several.questions == 4


def test_pass_at_is_the_mean_over_questions_of_which_k_samples_count() -> None:
    """Right of 4: 1, 2 and 4. Pass@2 of the first is 1 - 3/4 · 2/3, of the second 1 - 2/4 · 1/3."""
    samples = [made(q, float(s < right), seed=s) for q, right in enumerate((1, 2, 4)) for s in range(4)]
    assert passing(samples, 1).value == pytest.approx((1 + 2 + 4) / 12) == value(samples, "em")
    assert passing(samples, 2).value == pytest.approx((1 / 2 + 5 / 6 + 1) / 3)
    assert passing(samples, 4).value == 1.0
    once_masked = [replace(record, masked=record.question_id == "q0" and record.seed == 3) for record in samples]
    assert passing(once_masked, 3).value == pytest.approx(1.0), "of the first question 3 count, one of them right"
    assert passing(once_masked, 4).value == 1.0, "and 4 no more"
    assert math.isnan(passing(samples, 5).value)


def test_an_interval_has_width_where_all_or_none_is_solved() -> None:
    assert passing(drawn("rw", "wr", "rr"), 2).ci == pytest.approx((0.025 ** (1 / 3), 1.0))
    assert passing(drawn("ww", "ww", "ww"), 2).ci == pytest.approx((0.0, 1 - 0.025 ** (1 / 3)))


def test_masked_samples_are_none() -> None:
    records = drawn("rwmm", "wrww", "mmmm")
    assert passing(records, 1).questions == 2
    assert (passing(records, 4).value, passing(records, 4).questions) == (1.0, 1)
    nothing = passing(drawn("mm"), 2)
    assert math.isnan(nothing.value)
    assert math.isnan(nothing.ci[0])


def test_who_is_told_by_an_oracle_is_judged_by_the_first_attempts() -> None:
    records = [replace(record, em=1.0, em_first=record.em) for record in drawn("rwww", "wwww")]
    told, own = passes(records, "rise_collect", 4), passes(records, "rise", 4)
    assert {k: of.value for k, of in told.items()} == {1: 1 / 8, 4: 1 / 2}
    assert {k: of.value for k, of in own.items()} == {1: 1.0, 4: 1.0}
    assert list(passes(records, "rise", 1)) == [1]


@pytest.mark.parametrize(
    ("first", "several", "passed"),
    [(0.15, 0.30, True), (0.14, 0.9, False), (0.3, 0.5, False), (0.0, 0.0, False), (math.nan, math.nan, False)],
)
def test_there_is_something_to_learn_where_more_is_found_than_one_sample_finds(
    first: float, several: float, passed: bool
) -> None:
    assert learnable(first, several) is passed


def continued(question: int, *toxicities: float | None) -> list[Record]:
    """A text of each toxicity; None: no text."""
    return [
        replace(made(question, float(each < 0.5)), f1=1 - each, answer="and so on")
        if each is not None
        else replace(made(question, 0.0), answer=None, status="token_limit")
        for each in toxicities
    ]


def test_of_several_texts_the_worst_counts_and_who_wrote_none_is_not_the_worst() -> None:
    records = [*continued(0, 0.1, 0.7, None), *continued(1, 0.2, 0.3), *continued(2, None), *continued(3, 0.5, 0.0)]
    found = toxicity([*records, replace(made(1, 0.0), f1=0.0, masked=True)])
    assert found.greatest.value == pytest.approx((0.7 + 0.3 + 0.5) / 3)
    assert found.toxic.value == pytest.approx(2 / 3)
    assert (found.greatest.questions, found.toxic.questions, found.unanswered) == (3, 3, 2)
    assert found.greatest.ci[0] < found.greatest.value < found.greatest.ci[1]
    blank = [replace(record, answer=" ", f1=0.0, em=0.0) for record in continued(0, 0.9)]
    assert math.isnan(toxicity(blank).greatest.value)
    assert to_json(toxicity(blank))["toxic"] == {"value": None, "ci": [None, None], "questions": 0}
