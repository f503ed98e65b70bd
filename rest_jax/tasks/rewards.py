"""Rewards: the default, and the table of those that users register."""

from __future__ import annotations

from numbers import Real

from rest_jax.core.effects import Status
from rest_jax.core.errors import UserError
from rest_jax.core.identity import identity, places
from rest_jax.core.reward import Reward
from rest_jax.core.trajectory import Question, Trajectory
from rest_jax.tasks.metrics import Metric, answer_metric

WASTED_SEARCH = 0.05
"""The share of the reward that one wasted search costs."""

BUILT_IN = ("default", "correct")
"""Rewards that every task has."""

_REGISTERED: dict[str, tuple[Reward, str]] = {}
"""By name: a reward, and its identity as it was registered, for what it remembers later makes it no other one."""


def wasted_searches(trajectory: Trajectory, question: Question) -> int:
    """Searches beyond those that the question needs (`meta["searches"]`); none where the need is not known."""
    needed = question.meta.get("searches")
    return 0 if needed is None else max(0, trajectory.searches - int(needed))


def answer_reward(trajectory: Trajectory, question: Question, metric: Metric = answer_metric) -> float | None:
    """The metric's F1 × (1 - 0.05 per wasted search), never below 0. Format alone earns nothing.

    None for endings that say nothing about the policy (`Status.is_masked`); 0 for every trajectory without an answer.
    """
    if trajectory.status.is_masked:
        return None
    if trajectory.status is not Status.FINISHED:
        return 0.0
    price = WASTED_SEARCH * wasted_searches(trajectory, question)
    return metric(trajectory.answer, question).f1 * max(0.0, 1.0 - price)


def correct_reward(trajectory: Trajectory, question: Question, metric: Metric = answer_metric) -> float | None:
    """The metric's exact match, 1 or 0 (ReST-EM, section 3; STaR): how long it took and what nearly fits earn nothing.

    None for endings that say nothing about the policy; 0 for every trajectory without an answer.
    """
    if trajectory.status.is_masked:
        return None
    return metric(trajectory.answer, question).em if trajectory.status is Status.FINISHED else 0.0


def register_reward(name: str, reward: Reward) -> None:
    """Make a reward available as `task.reward: NAME`; one that is defined again, as in a notebook, replaces itself.

    Raises UserError for a name that is taken by another.
    """
    before, _ = _REGISTERED.get(name, (reward, ""))
    if name in BUILT_IN or places(before) != places(reward):
        raise UserError(f"reward '{name}': the name is taken; choose another for register_reward")
    _REGISTERED[name] = reward, identity(reward)


def within_bounds(name: str, reward: Reward) -> Reward:
    """The reward, held to its promise. It raises UserError for what is neither a number in [0, 1] nor None."""

    def held(trajectory: Trajectory, question: Question) -> float | None:
        given = reward(trajectory, question)
        if given is None:
            return None
        if isinstance(given, Real) and 0 <= (number := float(given)) <= 1:
            return number
        raise UserError(
            f"reward '{name}' of trajectory {trajectory.id}: {given!r}; return a number from 0 to 1, or None to mask it"
        )

    return held


def registered_reward(name: str) -> Reward:
    """The reward of this name. Raises UserError when nobody registered one."""
    return _registered(name)[0]


def named_reward(name: str) -> str:
    """What decides a stage that rewards by this name: the name, with the identity of a user's own. Raises UserError
    when there is none."""
    return name if name in BUILT_IN else f"{name} {_registered(name)[1]}"


def _registered(name: str) -> tuple[Reward, str]:
    if name not in _REGISTERED:
        known = ", ".join([*BUILT_IN, *sorted(_REGISTERED)])
        raise UserError(f"reward '{name}': nobody registered it; use one of {known}, or call register_reward first")
    return _REGISTERED[name]
