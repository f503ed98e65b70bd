"""Which rewarded trajectories pass a threshold (ReST, Algorithm 1 and appendix A.7; ReST-EM's cut-off)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from statistics import mean

import numpy as np

from rest_jax.config.settings import ImproveSettings
from rest_jax.core.events import Listener, silent, warning

OF_A_QUESTION = ("question_percentile", "interpolated")
"""The filters whose cut is each question's own."""


def keep(
    rewards: Mapping[str, float | None],
    question_of: Mapping[str, str],
    settings: ImproveSettings,
    threshold: float,
    emit: Listener = silent,
) -> list[str]:
    """The trajectory ids whose reward is strictly greater than the threshold's cut, in the order of `rewards`.

    `rewards` holds a number or None (masked: never kept, part of no mean) by trajectory id; `question_of` names each
    trajectory's question. Of each question at most `settings.per_question` are kept, highest reward first; among
    equals those that `rewards` names first, which in a store's order is the lowest sample.

    Warns when the first threshold's cut is not above the mean reward (ReST asks for that), and when the threshold
    keeps the same trajectories as the one before it.
    """
    known = {id: reward for id, reward in rewards.items() if reward is not None}
    if not known:
        return []
    kept = _kept(known, question_of, settings, threshold)
    position = settings.thresholds.index(threshold) if threshold in settings.thresholds else 0
    if position > 0 and kept == _kept(known, question_of, settings, settings.thresholds[position - 1]):
        before = settings.thresholds[position - 1]
        warning(
            emit,
            f"degenerate threshold: {threshold:g} keeps the same {len(kept)} trajectories as {before:g}; "
            f"set improve.thresholds further apart, or leave one out",
        )
    if position == 0 and settings.weighting is None and settings.filter not in OF_A_QUESTION:
        cut, average = _cut(list(known.values()), settings, threshold), mean(known.values())
        if cut < average:
            warning(
                emit,
                f"threshold below the mean: the first cut is {cut:.3g}, the mean reward {average:.3g}; "
                f"raise the first of improve.thresholds so that Improve learns from better than average",
            )
    return kept


def _kept(
    known: Mapping[str, float], question_of: Mapping[str, str], settings: ImproveSettings, threshold: float
) -> list[str]:
    by_question: dict[str, list[str]] = defaultdict(list)
    for id in known:
        by_question[question_of[id]].append(id)
    cut_of_all = _cut(list(known.values()), settings, threshold)
    kept: set[str] = set()
    for ids in by_question.values():
        own = settings.filter in OF_A_QUESTION
        cut = _cut([known[id] for id in ids], settings, threshold) if own else cut_of_all
        passing = sorted((id for id in ids if known[id] > cut), key=lambda id: -known[id])
        kept.update(passing[: settings.per_question])
    return [id for id in known if id in kept]


def _cut(rewards: list[float], settings: ImproveSettings, threshold: float) -> float:
    """The reward that must be exceeded: `rewards` are those of all questions, or of one where its cut is its own."""
    match settings.filter:
        case "fixed":
            return threshold
        case "interpolated":
            return _interpolated(rewards, threshold)
        case _:
            return float(np.quantile(rewards, threshold))


def _interpolated(rewards: list[float], gamma: float) -> float:
    """gamma * max + (1 - gamma) * mean of one question's rewards; equal rewards give exactly that reward."""
    average = mean(rewards)
    return average + gamma * (max(rewards) - average)
