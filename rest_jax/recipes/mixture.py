"""From rewarded trajectories to what is trained on: the thresholded mixture, or a control's."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from rest_jax.config.settings import ImproveSettings
from rest_jax.core.effects import Status
from rest_jax.core.events import Listener, notice, silent
from rest_jax.core.reward import Reward
from rest_jax.core.trajectory import Question, Trajectory
from rest_jax.evaluation.records import is_grounded
from rest_jax.tasks.metrics import YES_NO, normalise
from rest_jax.training.mixture import keep


@dataclass(frozen=True)
class Grown:
    """One Grow: its trajectories and their rewards by trajectory id (None: masked)."""

    trajectories: tuple[Trajectory, ...]
    rewards: Mapping[str, float | None]

    @property
    def mean_reward(self) -> float:
        counted = [reward for reward in self.rewards.values() if reward is not None]
        return sum(counted) / len(counted) if counted else float("nan")


def rewarded(trajectories: Sequence[Trajectory], questions: Sequence[Question], reward: Reward) -> Grown:
    """Trajectories with their rewards."""
    asked = {question.id: question for question in questions}
    return Grown(tuple(trajectories), {t.id: reward(t, asked[t.question_id]) for t in trajectories})


def thresholded(grown: Grown, settings: ImproveSettings, threshold: float, emit: Listener) -> tuple[Trajectory, ...]:
    """What passes one threshold, in the store's order."""
    question_of = {t.id: t.question_id for t in grown.trajectories}
    kept = set(keep(grown.rewards, question_of, settings, threshold, emit))
    notice(emit, f"kept {len(kept)} of {len(grown.trajectories)} trajectories with reward > {threshold:g}")
    return tuple(t for t in grown.trajectories if t.id in kept)


def kept_fraction(grown: Grown, settings: ImproveSettings, threshold: float) -> float:
    """The share of a Grow's trajectories, masked ones included, that passes a threshold; 0 without trajectories."""
    return len(thresholded(grown, settings, threshold, silent)) / max(1, len(grown.trajectories))


def is_sound(trajectory: Trajectory, held_out_pages: Collection[str]) -> bool:
    """Whether a demonstration holds up when its searches are really made: no call failed, none showed a held-out page,
    and the answer was seen.

    Yes and no cannot be seen; for them a search that found something is enough.
    """
    shown = {result.get("title") for call in trajectory.tool_calls for result in call.data.get("results", ())}
    if any(call.fault is not None for call in trajectory.tool_calls) or not shown.isdisjoint(held_out_pages):
        return False
    if trajectory.answer is not None and normalise(trajectory.answer) in YES_NO:
        return any(call.found for call in trajectory.tool_calls)
    return is_grounded(trajectory)


def random_well_formed(grown: Grown, count: int, seed: int) -> tuple[Trajectory, ...]:
    """Control B: as many well-formed self-samples as the filter kept, chosen without looking at their reward."""
    finished = [t for t in grown.trajectories if t.status is Status.FINISHED]
    chosen = set(random.Random(seed).sample([t.id for t in finished], min(count, len(finished))))
    return tuple(t for t in finished if t.id in chosen)


def majority(trajectories: Sequence[Trajectory]) -> tuple[Trajectory, ...]:
    """For each question the first trajectory whose normalised answer is the commonest; ties go to the lowest sample.

    A question that no sample answered is represented by its first sample.
    """
    by_question: dict[str, list[Trajectory]] = {}
    for trajectory in sorted(trajectories, key=lambda t: (t.question_id, t.sample)):
        by_question.setdefault(trajectory.question_id, []).append(trajectory)
    return tuple(_winner(samples) for samples in by_question.values())


def _winner(samples: Sequence[Trajectory]) -> Trajectory:
    answered = [(normalise(t.answer), t) for t in samples if t.answer is not None]
    if not answered:
        return samples[0]
    votes = Counter(answer for answer, _ in answered)
    return max(answered, key=lambda pair: (votes[pair[0]], -pair[1].sample))[1]
