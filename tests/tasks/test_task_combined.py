"""Several rewards as one, by hand; then a threshold."""

from __future__ import annotations

import pytest

from rest_jax.config.settings import ImproveSettings
from rest_jax.core.errors import UserError
from rest_jax.tasks.combined import Part, combined
from rest_jax.training.mixture import keep


def test_each_part_is_brought_to_its_scale_and_weighed() -> None:
    parts = [Part(), Part(3, low=-10, high=10)]
    assert combined([0.5, 5], parts) == pytest.approx((0.5 + 3 * 0.75) / 4)
    assert combined([2.0, -99], parts) == pytest.approx(0.25)
    assert combined([0.2, 5], [Part(0), Part(1, 0, 10)]) == 0.5


def test_a_masked_part_masks_the_whole() -> None:
    assert combined([None, 1.0], [Part(), Part()]) is None


def test_what_passes_a_threshold_is_what_the_whole_passes() -> None:
    parts = [Part(0.5), Part(0.5)]
    answers, judged = {"a": 1.0, "b": 1.0, "c": 0.0, "d": 1.0}, {"a": 1.0, "b": 0.2, "c": 1.0, "d": None}
    rewards = {id: combined([answers[id], judged[id]], parts) for id in answers}
    assert rewards == {"a": 1.0, "b": 0.6, "c": 0.5, "d": None}
    assert keep(rewards, dict.fromkeys(rewards, "q"), ImproveSettings(per_question=None), 0.5) == ["a", "b"]


@pytest.mark.parametrize("parts", [[Part(0)], [Part(1, 1, 1)], [Part(-1)], [Part(1, 1, 0)]])
def test_parts_that_say_nothing_are_refused(parts: list[Part]) -> None:
    with pytest.raises(UserError, match="correct weight, low and high"):
        combined([0.5], parts)
