"""Reward-weighted regression: every attempt is learned, each as much as it was worth (RISE, Qu et al. 2024, section
4.2; Peng et al. 2019).

What an attempt was worth is what the oracle said of its answer, which stands in the trajectory: 1 right, 0 wrong, -1
without an answer (as in the released code). It counts exp(worth / temperature).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import mean

from rest_jax.agents.attempts import answered, is_attempt
from rest_jax.config.improve import WeightingSettings
from rest_jax.core.effects import ORACLE, RIGHT
from rest_jax.core.trajectory import Call, Trajectory, rechosen

Weight = Callable[[Call], float]
NO_ANSWER = -1.0


def weighted(mixture: Sequence[Trajectory], settings: WeightingSettings | None) -> list[tuple[Trajectory, Weight]]:
    """Each trajectory with the weight of its calls; where one has several candidates, the best of them is its target.

    What is no attempt (a reflection, feedback) counts 1, and so does all of it without settings.
    """
    if settings is None:
        return [(trajectory, lambda call: 1.0) for trajectory in mixture]
    best = [_with_best_targets(trajectory) for trajectory in mixture]
    worths = [_worths(trajectory) for trajectory in best]
    of_question = defaultdict(list)
    for trajectory, each in zip(best, worths, strict=True):
        of_question[trajectory.question_id] += each.values()
    average = {id: mean(each) if each and settings.centred else 0.0 for id, each in of_question.items()}

    def weight(trajectory: Trajectory, worth: dict[int, float]) -> Weight:
        def of(call: Call) -> float:
            if not is_attempt(call):
                return 1.0
            return math.exp((worth[call.trial] - average[trajectory.question_id]) / settings.temperature)

        return of

    return [(trajectory, weight(trajectory, worth)) for trajectory, worth in zip(best, worths, strict=True)]


def _with_best_targets(trajectory: Trajectory) -> Trajectory:
    right = _told_right(trajectory)

    def best(call: Call) -> int:
        if len(call.candidates) == 1 or not is_attempt(call):
            return call.chosen
        order = [call.chosen, *(place for place in range(len(call.candidates)) if place != call.chosen)]
        return max(order, key=lambda place: _worth(answered(call, place), right))

    return rechosen(trajectory, best)


def _worths(trajectory: Trajectory) -> dict[int, float]:
    """What each attempt was worth, by its `trial`: that of the call that ended it."""
    right = _told_right(trajectory)
    return {call.trial: _worth(answered(call), right) for call in trajectory.calls if is_attempt(call)}


def _told_right(trajectory: Trajectory) -> set[str]:
    """The answers that the oracle found right."""
    asked = (call for call in trajectory.tool_calls if call.tool == ORACLE)
    return {call.arguments["answer"] for call in asked if call.content == RIGHT}


def _worth(answer: str | None, right: set[str]) -> float:
    return NO_ANSWER if answer is None else float(answer in right)
