"""Intervals and comparisons: against closed forms, and against the mistakes they exist to prevent."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from rest_jax.evaluation import statistics
from rest_jax.evaluation.records import Record
from rest_jax.evaluation.statistics import (
    Discordance,
    compare,
    discordance,
    interval,
    pass_at_k,
    smallest_effect,
    value,
)
from rest_jax.evaluation.table import row, to_json


def made(question: int, em: float, *, seed: int = 0, well_formed: bool = True, masked: bool = False) -> Record:
    return Record(
        question_id=f"q{question}",
        sample=0,
        seed=seed,
        status="finished" if well_formed else "malformed",
        answer="x",
        em=em,
        f1=em,
        well_formed=well_formed,
        grounded=em,
        searches=2,
        model_tokens=10,
        masked=masked,
    )


def test_value_is_the_mean_and_leaves_masked_out() -> None:
    records = [made(0, 1.0), made(1, 0.0), made(2, 1.0, masked=True)]
    assert value(records, "em") == 0.5


def test_em_well_formed_divides_by_the_well_formed_only() -> None:
    records = [made(0, 1.0), made(1, 0.0), made(2, 0.0, well_formed=False), made(3, 0.0, well_formed=False)]
    assert value(records, "em_well_formed") == 0.5
    assert value(records, "em") == 0.25


def test_em_grounded_leaves_out_what_cannot_be_grounded() -> None:
    yes = replace(made(0, 1.0), grounded=None)
    assert value([yes, made(1, 1.0), made(2, 0.0)], "em_grounded") == 0.5
    assert math.isnan(value([yes], "em_grounded"))
    assert to_json(yes)["grounded"] is None


def test_interval_matches_the_binomial_for_independent_questions() -> None:
    records = [made(i, float(i % 4 == 0)) for i in range(400)]
    low, high = interval(records, "em")
    half = 1.96 * math.sqrt(0.25 * 0.75 / 400)
    assert low == pytest.approx(0.25 - half, abs=0.005)
    assert high == pytest.approx(0.25 + half, abs=0.005)


def test_copies_of_a_question_do_not_narrow_the_interval() -> None:
    once = [made(i, float(i % 2)) for i in range(100)]
    five_seeds = [made(i, float(i % 2), seed=s) for i in range(100) for s in range(5)]
    assert interval(once, "em") == pytest.approx(interval(five_seeds, "em"), abs=1e-12)


def test_pairing_by_question_removes_what_both_sides_share() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(300) < 0.5
    a = [made(i, float(hard[i] or i % 10 == 0)) for i in range(300)]
    b = [made(i, float(hard[i])) for i in range(300)]
    paired = compare("a", "b", "em", a, b)
    assert paired.difference == pytest.approx(value(a, "em") - value(b, "em"))
    assert paired.ci[0] > 0
    unpaired_width = interval(a, "em")[1] - interval(a, "em")[0]
    assert paired.ci[1] - paired.ci[0] < unpaired_width


def test_comparison_uses_common_questions_only_and_reports_each_seed() -> None:
    a = [made(i, 1.0, seed=s) for i in range(10) for s in (0, 1)]
    b = [made(i, 0.0, seed=s) for i in range(5, 15) for s in (0, 1)]
    result = compare("a", "b", "em", a, b)
    assert result.questions == 5
    assert result.per_seed == (1.0, 1.0)
    assert math.isnan(compare("a", "b", "em", a, [made(99, 1.0)]).difference)


def test_same_policy_twice_differs_by_nothing() -> None:
    records = [made(i, float(i % 3 == 0)) for i in range(60)]
    result = compare("a", "a", "em", records, records)
    assert result.difference == 0
    assert result.ci == (0, 0)


@pytest.mark.parametrize(
    ("n", "correct", "k", "expected"), [(4, 0, 2, 0.0), (4, 4, 1, 1.0), (4, 1, 2, 0.5), (5, 3, 3, 1.0), (5, 2, 3, 0.9)]
)
def test_pass_at_k(n: int, correct: int, k: int, expected: float) -> None:
    assert pass_at_k(n, correct, k) == pytest.approx(expected)


def test_pass_at_k_refuses_too_few_samples() -> None:
    with pytest.raises(ValueError, match="pass@5 needs at least 5 samples, got 4"):
        pass_at_k(4, 1, 5)


def test_bootstrap_of_two_questions_is_worked_out_by_hand() -> None:
    """One right, one wrong: resampled, the mean is 0, 1/2 or 1 in 1, 2 and 1 of 4 draws."""
    records = [made(0, 1.0), made(1, 0.0)]
    assert interval(records, "em") == (0.0, 1.0)
    assert interval(records, "em", confidence=0.4) == (0.5, 0.5), "between the quantiles 0.3 and 0.7"


def of_seeds(*rates: float, questions: int = 20) -> list[Record]:
    """Each seed has its own rate, the same of every question."""
    return [made(i, rate, seed=s) for s, rate in enumerate(rates) for i in range(questions)]


def test_where_questions_do_not_differ_seeds_alone_do() -> None:
    """One seed of three right, so the resampled mean is 0, 1/3, 2/3 or 1 in 8, 12, 6 and 1 of 27 draws."""
    records = of_seeds(0.0, 0.0, 1.0)
    assert interval(records, "em") == (0.0, 1.0), "more than 0.975 is reached at 1 alone"
    assert interval(records, "em", confidence=0.9) == (0.0, pytest.approx(2 / 3)), "8/27 is beyond 0.05, 26/27 0.95"
    assert interval(records, "em", confidence=0.2) == (pytest.approx(1 / 3), pytest.approx(1 / 3)), "20/27 beyond 0.6"


def test_two_seeds_are_not_drawn() -> None:
    assert interval(of_seeds(0.0, 1.0), "em") == (0.5, 0.5)
    assert compare("a", "b", "em", of_seeds(0.0, 1.0), of_seeds(0.0, 0.0)).ci == (0.5, 0.5)


def test_variances_of_seeds_and_questions_add_up() -> None:
    """Of y = a_s + b_q the mean has the variance var(a)/S + var(b)/Q: here 2/3 · 0.2²/40 and as much again."""
    steps = (-0.2, 0.0, 0.2)
    records = [made(q, 0.5 + steps[s % 3] + steps[q % 3], seed=s) for s in range(39) for q in range(39)]
    half = 1.96 * math.sqrt(2 * (2 / 3 * 0.2**2) / 39)
    assert interval(records, "em") == (pytest.approx(0.5 - half, abs=0.003), pytest.approx(0.5 + half, abs=0.003))


def test_pairing_by_seed_removes_what_both_sides_share() -> None:
    a, b = of_seeds(0.4, 0.6, 0.9), of_seeds(0.1, 0.3, 0.6)
    paired = compare("a", "b", "em", a, b)
    assert paired.ci == (pytest.approx(0.3), pytest.approx(0.3))
    assert paired.per_seed == (pytest.approx(0.3),) * 3
    others = [replace(record, seed=record.seed + 7) for record in b]
    low, high = compare("a", "b", "em", a, others).ci
    assert low < 0.2 < 0.4 < high, "of other seeds nothing is shared"


def test_beside_one_seed_those_of_the_other_side_are_drawn() -> None:
    """As in `test_where_questions_do_not_differ_seeds_alone_do`, 0.5 lower, and the other way round."""
    several, one = of_seeds(0.0, 0.0, 1.0), of_seeds(0.5)
    below = compare("several", "one", "em", several, one, confidence=0.9)
    assert below.difference == pytest.approx(1 / 3 - 0.5)
    assert below.ci == (pytest.approx(-0.5), pytest.approx(2 / 3 - 0.5))
    above = compare("one", "several", "em", one, several, confidence=0.9)
    assert above.ci == (pytest.approx(0.5 - 2 / 3), pytest.approx(0.5))


def test_the_interval_covers_where_seeds_differ_and_that_over_questions_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """200 tables of 5 seeds × 40 questions: the share right of a cell is 0.5 + N(0, 0.1) of its seed + U(-0.3, 0.3) of
    its question. A share of 200 is two binomial deviations below 0.95 at 0.919."""
    monkeypatch.setattr(statistics, "RESAMPLES", 1000)
    rng = np.random.default_rng(0)
    covered = {"questions": 0, "both": 0}
    for _ in range(200):
        right = 0.5 + 0.1 * rng.standard_normal((5, 1)) + rng.uniform(-0.3, 0.3, 40)
        em = (rng.random((5, 40)) < right).astype(float)
        records = [made(q, em[s, q], seed=s) for s in range(5) for q in range(40)]
        fixed = [replace(record, seed=0) for record in records]
        for over, table in (("questions", fixed), ("both", records)):
            low, high = interval(table, "em")
            covered[over] += low <= 0.5 <= high
    assert covered["both"] / 200 >= 0.919
    assert covered["questions"] / 200 < 0.919


@pytest.mark.parametrize(
    ("n", "em", "expected"),
    [(100, 0.0, (0.0, 0.036217)), (10, 1.0, (0.691503, 1.0)), (1, 0.0, (0.0, 0.975)), (2, 1.0, (0.158114, 1.0))],
)
def test_at_0_and_1_the_bounds_are_clopper_pearsons(n: int, em: float, expected: tuple[float, float]) -> None:
    """1 - 0.025^(1/n) is that rate of which n questions are all wrong once in 40 times; of one question it is 0.975."""
    assert interval([made(i, em) for i in range(n)], "em") == pytest.approx(expected, abs=1e-6)
    seeds = [made(i, em, seed=s) for i in range(n) for s in range(5)]
    assert interval(seeds, "em") == pytest.approx(expected, abs=1e-6), "a question's seeds are no further questions"


def test_clopper_pearson_counts_the_questions_that_the_metric_has() -> None:
    records = [made(0, 0.0), made(1, 0.0), made(2, 1.0, well_formed=False)]
    assert interval(records, "em_well_formed") == pytest.approx((0.0, 1 - math.sqrt(0.025)))


def test_what_is_no_rate_or_stands_elsewhere_has_no_bounds_of_a_rate() -> None:
    records = [replace(made(i, 0.25), searches=1) for i in range(10)]
    assert interval(records, "f1") == (0.25, 0.25)
    assert interval(records, "searches_per_trajectory") == (1.0, 1.0)
    assert math.isnan(interval(records, "em_first")[0]), "nobody has made an attempt"


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 2 / 32), (4, 1, 2 * 6 / 32), (3, 3, 1.0), (1, 9, 2 * 11 / 1024)],
)
def test_mcnemar_is_the_binomial_of_what_differs(only_a: int, only_b: int, p: float) -> None:
    a = [made(i, float(i < only_a or i >= 90)) for i in range(100)]
    b = [made(i, float(only_a <= i < only_a + only_b or i >= 90)) for i in range(100)]
    found = discordance(a, b)
    assert found == Discordance(only_a, only_b, 100)
    assert found.p == pytest.approx(p)
    assert discordance(b, a).p == found.p


def test_mcnemar_wants_one_record_a_question_and_leaves_masked_out() -> None:
    once = [made(0, 1.0), made(1, 0.0, masked=True)]
    assert discordance(once, [made(0, 0.0), made(1, 1.0), made(2, 1.0)]) == Discordance(1, 0, 1)
    with pytest.raises(ValueError, match="one record of each question, got 2 of 1"):
        discordance(once, [made(0, 0.0), made(0, 1.0, seed=1)])


REFLECTIONS = {0: (134, 134), 1: (7, 5), 2: (2, 2), 3: (1, 1), 9: (20, 8)}
"""Reflections → programs that ended with so many, and how many of them passed the hidden tests: of 164, 150
(Reflexion's published HumanEval log; of its buckets 1 to 3 it is known that 8 of 10 passed, not which)."""


def test_a_log_shaped_like_reflexions_on_humaneval() -> None:
    """First attempts against last ones, program by program. The figures below are worked out by hand."""
    ended = [(bucket, n < right) for bucket, (programs, right) in REFLECTIONS.items() for n in range(programs)]
    first = [made(i, float(bucket == 0)) for i, (bucket, _) in enumerate(ended)]
    last = [made(i, float(passed)) for i, (_, passed) in enumerate(ended)]
    assert (len(last), sum(record.em for record in last)) == (164, 150)
    assert value(last, "em") == pytest.approx(0.914634, abs=1e-6)
    low, high = interval(last, "em")
    half = 1.96 * math.sqrt(150 / 164 * 14 / 164 / 164)
    assert (low, high) == (pytest.approx(150 / 164 - half, abs=0.007), pytest.approx(150 / 164 + half, abs=0.007))
    gain = compare("last", "first", "em", last, first)
    assert gain.difference == pytest.approx(16 / 164)
    assert gain.ci[0] > 0
    assert discordance(last, first) == Discordance(16, 0, 164)
    assert discordance(last, first).p == pytest.approx(2**-15), "16 tosses of one side, and the same of the other"
    claimed = [passed for bucket, passed in ended if bucket < 9]
    assert (len(claimed), claimed.count(False)) == (144, 2), "2 of 144 that passed their own tests fail the hidden ones"


def test_smallest_effect_shrinks_with_the_root_of_n() -> None:
    assert smallest_effect(400) == pytest.approx(smallest_effect(100) / 2)
    assert smallest_effect(300, 0.3) == pytest.approx(0.1048, abs=1e-3)


def test_row_counts_and_turns_nan_into_null() -> None:
    entry = row("pilot", [made(0, 1.0), made(1, 0.0, masked=True)], task="atlas", split="report", weights_digest="d")
    assert (entry.n, entry.questions, entry.masked) == (1, 1, 1)
    assert to_json(entry)["kept_fraction"] is None
    empty = row("nobody", [], task="atlas", split="report", weights_digest="d")
    assert to_json(empty)["em_ci"] == [None, None]
