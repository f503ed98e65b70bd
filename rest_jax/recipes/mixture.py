"""From rewarded trajectories to what is trained on: the thresholded mixture, or a control's."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rest_jax.config.settings import ImproveSettings
from rest_jax.core.effects import Status, passages
from rest_jax.core.events import Listener, notice, silent
from rest_jax.core.trajectory import Question, Trajectory
from rest_jax.evaluation.records import is_grounded, is_yes_or_no
from rest_jax.tasks.task import Task
from rest_jax.training.mixture import keep


@dataclass(frozen=True)
class Grown:
    """One Grow: its trajectories and their rewards by trajectory id (None: masked, and part of no mixture)."""

    trajectories: tuple[Trajectory, ...]
    rewards: Mapping[str, float | None]

    @property
    def mean_reward(self) -> float:
        counted = [reward for reward in self.rewards.values() if reward is not None]
        return sum(counted) / len(counted) if counted else float("nan")


def rewarded(
    trajectories: Sequence[Trajectory], questions: Sequence[Question], task: Task, reward: str, emit: Listener
) -> Grown:
    """Trajectories with the rewards of this name. Those that were shown a page held out for select or report are
    masked and counted in a notice: whatever learned from them would have seen what it is measured on."""
    asked = {question.id: question for question in questions}
    held_out, worth = task.held_out_pages, task.reward(reward)
    leaked = {t.id for t in trajectories if not _titles_shown(t).isdisjoint(held_out)}
    if leaked:
        notice(emit, f"{len(leaked)} of {len(trajectories)} trajectories saw a held-out page: nothing learns from them")
    return Grown(
        tuple(trajectories), {t.id: None if t.id in leaked else worth(t, asked[t.question_id]) for t in trajectories}
    )


def thresholded(grown: Grown, settings: ImproveSettings, threshold: float, emit: Listener) -> tuple[Trajectory, ...]:
    """What passes one threshold, in the store's order."""
    question_of = {t.id: t.question_id for t in grown.trajectories}
    kept = set(keep(grown.rewards, question_of, settings, threshold, emit))
    notice(emit, f"kept {len(kept)} of {len(grown.trajectories)} trajectories with reward > {threshold:g}")
    return tuple(t for t in grown.trajectories if t.id in kept)


def seeded(
    chosen: Sequence[Trajectory], demonstrations: Sequence[Trajectory], settings: ImproveSettings
) -> Sequence[Trajectory]:
    """What an Improve step trains on: what was chosen, after the demonstrations unless the settings leave them out."""
    return [*demonstrations, *chosen] if settings.include_seed else chosen


def kept_fraction(grown: Grown, settings: ImproveSettings, threshold: float) -> float:
    """The share of a Grow's trajectories, masked ones included, that passes a threshold; 0 without trajectories."""
    return len(thresholded(grown, settings, threshold, silent)) / max(1, len(grown.trajectories))


def is_sound(trajectory: Trajectory) -> bool:
    """Whether a demonstration holds up when its searches are really made: no call failed, and the answer was seen.

    Yes and no cannot be seen; for them a search that found something is enough.
    """
    if any(call.fault is not None for call in trajectory.tool_calls):
        return False
    if is_yes_or_no(trajectory.answer):
        return any(call.found for call in trajectory.tool_calls)
    return is_grounded(trajectory)


def random_finished(grown: Grown, count: int, seed: int) -> tuple[Trajectory, ...]:
    """Control B: as many self-samples as the filter kept, chosen without looking at their reward.

    Of the well-formed ones only those that answered: learning from turns that lead nowhere would make B easy to beat.
    """
    answered = [t for t in grown.trajectories if t.status is Status.FINISHED]
    eligible = [t for t in answered if grown.rewards[t.id] is not None]
    chosen = set(random.Random(seed).sample([t.id for t in eligible], min(count, len(eligible))))
    return tuple(t for t in eligible if t.id in chosen)


def _titles_shown(trajectory: Trajectory) -> set[str]:
    """Titles of the pages that searches opened; a lookup reads in one of them."""
    return {title for call in trajectory.tool_calls for title, _ in passages(call.data) or ()}
