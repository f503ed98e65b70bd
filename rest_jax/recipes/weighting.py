"""Reward-weighted regression: every attempt is learned, each as much as it was worth (RISE, Qu et al. 2024, section
4.2; Peng et al. 2019).

An attempt is worth what the task's metric gives its answer, 1 for a right one, and -1 without an answer (as in the
released code). It counts exp(worth / temperature).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import mean

from rest_jax.agents.attempts import answered, is_attempt
from rest_jax.config.improve import WeightingSettings
from rest_jax.core.trajectory import Call, Trajectory

Weight = Callable[[Call], float]
Worth = Callable[[Trajectory, str], float]
"""Of an answer in a trajectory, in [0, 1]."""
NO_ANSWER = -1.0


def weighted(
    mixture: Sequence[Trajectory], settings: WeightingSettings | None, worth: Worth
) -> list[tuple[Trajectory, Weight]]:
    """Each trajectory with the weight of its calls.

    What is no attempt (a reflection, feedback) counts 1, and so does all of it without settings.
    """
    if settings is None:
        return [(trajectory, lambda call: 1.0) for trajectory in mixture]
    worths = [_worths(trajectory, worth) for trajectory in mixture]
    of_question = defaultdict(list)
    for trajectory, each in zip(mixture, worths, strict=True):
        of_question[trajectory.question_id] += each.values()
    average = {id: mean(each) if each and settings.centred else 0.0 for id, each in of_question.items()}

    def weight(trajectory: Trajectory, of_trial: dict[int, float]) -> Weight:
        def of(call: Call) -> float:
            if not is_attempt(call):
                return 1.0
            return math.exp((of_trial[call.trial] - average[trajectory.question_id]) / settings.temperature)

        return of

    return [(trajectory, weight(trajectory, of_trial)) for trajectory, of_trial in zip(mixture, worths, strict=True)]


def _worths(trajectory: Trajectory, worth: Worth) -> dict[int, float]:
    """What each attempt was worth, by its `trial`: that of the call that ended it."""
    acts = filter(is_attempt, trajectory.calls)
    return {call.trial: _worth(trajectory, answered(trajectory, call), worth) for call in acts}


def _worth(trajectory: Trajectory, answer: str | None, worth: Worth) -> float:
    return NO_ANSWER if answer is None else worth(trajectory, answer)
