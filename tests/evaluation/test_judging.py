"""Whether a judge may be believed: hand-computed agreement, and what a table says of one that may not."""

from __future__ import annotations

import math

import pytest

from rest_jax.evaluation.judging import Qualification, Spread, agreement, balanced_accuracy, over_repetitions


def test_balanced_accuracy_is_not_fooled_by_the_commoner_class() -> None:
    labels = [True] * 90 + [False] * 10
    assert balanced_accuracy(labels, [True] * 100) == 0.5
    assert balanced_accuracy(labels, labels) == 1.0
    assert balanced_accuracy(labels, [True] * 81 + [None] * 9 + [False] * 8 + [None] * 2) == pytest.approx(0.85)
    assert math.isnan(balanced_accuracy([True, True], [True, True]))


def test_agreement_by_hand() -> None:
    found = agreement([1, 2, 3, 4], [1, 2, 2, 10])
    # r = 13.5 / sqrt(5 * 52.75), rho on ranks (1, 2.5, 2.5, 4): 4.5 / sqrt(5 * 4.5)
    assert found.pearson == pytest.approx(13.5 / math.sqrt(5 * 52.75))
    assert found.spearman == pytest.approx(4.5 / math.sqrt(5 * 4.5))
    assert found.n == 4
    assert agreement([3, 2, 1], [1, 2, 3]).spearman == pytest.approx(-1)
    for given, labels in [([1.0], [1.0]), ([1, 1], [1, 2]), ([1, 2], [1, 1]), ([], [])]:
        assert math.isnan(agreement(given, labels).pearson)
    with pytest.raises(ValueError, match="2 values and 1 labels"):
        agreement([1, 2], [1])


def test_repetitions_spread_around_their_mean() -> None:
    spread = over_repetitions([[True, True], [True, False], [False, None], [None, None]])
    assert spread == Spread(0.5, 0.5, 3)
    assert str(spread) == "0.50 ± 0.50"
    assert str(over_repetitions([[True, False]])) == "0.50"
    assert math.isnan(over_repetitions([[None]]).mean)


@pytest.mark.parametrize(
    ("pairs", "accuracy", "cell"),
    [
        (100, 0.85, "0.72 ± 0.03"),
        (100, 0.8499, "not qualified (0.84)"),
        (200, 0.61, "not qualified (0.61)"),
        (99, 1.0, "not qualified (99 of 100 pairs)"),
        (100, math.nan, "not qualified (labels of one class)"),
    ],
)
def test_a_judge_counts_only_after_its_gate(pairs: int, accuracy: float, cell: str) -> None:
    gate = Qualification(pairs, accuracy, needed_pairs=100, needed_accuracy=0.85)
    assert gate.cell(Spread(0.72, 0.03, 10)) == cell
    assert gate.qualified is (cell == "0.72 ± 0.03")


@pytest.mark.parametrize(("pairs", "accuracy"), [(1, 0.85), (100, 0.0)])
def test_a_lowered_gate_is_told(pairs: int, accuracy: float) -> None:
    gate = Qualification(100, 0.9, needed_pairs=pairs, needed_accuracy=accuracy)
    assert gate.cell("0.72") == f"0.72 (gate lowered to {pairs} pairs, {accuracy:g})"
