"""Reward-weighted regression against cases worked out by hand (RISE, Qu et al. 2024, section 4.2)."""

from __future__ import annotations

import math

import pytest

from rest_jax.agents.cot import CUE
from rest_jax.config.improve import WeightingSettings
from rest_jax.core.effects import Candidate, Finish, Role
from rest_jax.core.trajectory import Call, Trajectory
from rest_jax.core.transcript import Segment, Source
from rest_jax.recipes.weighting import weighted
from tests.trajectories import trajectory

RIGHT_ONE, WRONG_ONE, NONE = " So. Answer: 4", " So. Answer: 5", " I do not know."


def attempt(index: int, *said: str, step: str = "think") -> Call:
    candidates = tuple(Candidate((7, 8), (-0.5, -0.5), text, Finish.EOS) for text in said)
    return Call(index, step, index, Role.ACTOR, (Segment(Source.PROMPT, CUE, (1,)),), candidates)


def collected(question: str, *calls: Call) -> Trajectory:
    return trajectory(question_id=question, calls=calls)


def worth(made: Trajectory, answer: str) -> float:
    """4 is right."""
    return float(answer == "4")


def weights(mixture: list[Trajectory], settings: WeightingSettings | None) -> list[list[float]]:
    return [[weight(call) for call in made.calls] for made, weight in weighted(mixture, settings, worth)]


def test_an_attempt_counts_as_the_released_code_has_it() -> None:
    made = collected("q", attempt(0, NONE), attempt(1, WRONG_ONE), attempt(2, RIGHT_ONE))
    assert weights([made], WeightingSettings()) == [pytest.approx([0.082, 1.0, 12.18], rel=1e-2)]
    assert weights([made], None) == [[1.0, 1.0, 1.0]]


def test_centring_is_by_question() -> None:
    """Of question a the attempts of two trajectories are worth 0, 1 and 1, of b one is worth 0."""
    made = [
        collected("a", attempt(0, WRONG_ONE), attempt(1, RIGHT_ONE)),
        collected("a", attempt(0, RIGHT_ONE)),
        collected("b", attempt(0, WRONG_ONE)),
    ]
    low, high = math.exp(-2 / 3 / 0.5), math.exp(1 / 3 / 0.5)
    assert weights(made, WeightingSettings(0.5, centred=True)) == [
        pytest.approx([low, high]),
        pytest.approx([high]),
        [1.0],
    ]


def test_what_is_no_attempt_counts_as_it_is() -> None:
    made = collected("q", attempt(0, WRONG_ONE), attempt(1, " I never added.", step="reflect"))
    assert weights([made], WeightingSettings()) == [[1.0, 1.0]]
