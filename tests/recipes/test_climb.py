"""Improve until it is no better on select: what is tried, from where, and what is kept."""

from __future__ import annotations

import math

import pytest

from rest_jax.recipes.climb import START, Round, climbed


class Slope:
    """Policies are their labels; their scores are written down, and what was made from what is noted."""

    def __init__(self, **scores: float) -> None:
        self.scores = {label.replace("_", "-"): score for label, score in scores.items()}
        self.made: list[str] = []

    def improve(self, start: str, attempt: Round) -> str:
        self.made.append(f"{start}>{attempt.label}")
        return f"s{attempt.label}"

    def score(self, policy: str, attempt: Round) -> float:
        assert policy == ("s0" if attempt == START else f"s{attempt.label}")
        return self.scores[policy]

    def climb(self, steps: int, rounds: int) -> tuple[str, int, int]:
        best = climbed("s0", steps, rounds, self.improve, self.score)
        return best.policy, best.made_by, best.kept


def test_rest_algorithm_1_goes_on_at_a_threshold_while_the_reward_rises() -> None:
    slope = Slope(s0=0.1, s1=0.2, s1_round_2=0.3, s1_round_3=0.3, s2=0.5, s2_round_2=0.4)
    assert slope.climb(steps=2, rounds=3) == ("s2", 2, 3)
    assert slope.made == ["s0>1", "s1>1-round-2", "s1-round-2>1-round-3", "s1-round-2>2", "s2>2-round-2"]


def test_it_never_takes_more_rounds_than_it_may() -> None:
    slope = Slope(s0=0.0, s1=0.1, s1_round_2=0.2, s1_round_3=0.3)
    assert slope.climb(steps=1, rounds=2) == ("s1-round-2", 1, 2)
    assert slope.made == ["s0>1", "s1>1-round-2"]


def test_what_is_no_better_is_left_behind_and_the_next_threshold_starts_before_it() -> None:
    slope = Slope(s0=0.5, s1=0.4, s2=0.6, s3=0.6)
    assert slope.climb(steps=3, rounds=1) == ("s2", 2, 1)
    assert slope.made == ["s0>1", "s0>2", "s2>3"]


@pytest.mark.parametrize("worse", [0.5, 0.2, -math.inf])
def test_where_nothing_is_better_the_policy_before_is_kept(worse: float) -> None:
    slope = Slope(s0=0.5, s1=worse, s2=worse)
    assert slope.climb(steps=2, rounds=2) == ("s0", 0, 0)
