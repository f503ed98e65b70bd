"""ReST on a reward whose optimum is known: what filtering makes of a policy has a closed form.

A policy is a table: for each question a distribution over actions. What an Improve step fits by maximum likelihood is
the distribution of what was kept, and that tends to the policy given that its reward passes, pi(a) [r(a) > tau] / Z.
"""

from __future__ import annotations

import numpy as np
import pytest

from rest_jax.config.improve import ImproveSettings
from rest_jax.training.mixture import keep

QUESTIONS, ACTIONS, SAMPLES = 8, 12, 2_000
SIGMAS = 5


def grown(policy_qa: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sampled actions [question, sample]."""
    return np.stack([rng.choice(ACTIONS, SAMPLES, p=row) for row in policy_qa])


def improved(sampled_qn: np.ndarray, reward_qa: np.ndarray, settings: ImproveSettings, threshold: float) -> np.ndarray:
    """The table of greatest likelihood on what the mixture keeps, and how much it is of each question."""
    ids = {f"{q}#{n}": (q, action) for q, row in enumerate(sampled_qn) for n, action in enumerate(row)}
    rewards = {id: float(reward_qa[place]) for id, place in ids.items()}
    counts_qa = np.zeros(reward_qa.shape)
    for id in keep(rewards, {id: id.partition("#")[0] for id in ids}, settings, threshold):
        counts_qa[ids[id]] += 1
    return counts_qa


def conditioned(policy_qa: np.ndarray, passes_qa: np.ndarray) -> np.ndarray:
    """pi(a) [passes] / Z, row by row."""
    left_qa = policy_qa * passes_qa
    return left_qa / left_qa.sum(1, keepdims=True)


def mean_reward(policy_qa: np.ndarray, reward_qa: np.ndarray) -> float:
    return float((policy_qa * reward_qa).sum(1).mean())


def standard_error(expected_qa: np.ndarray, reward_qa: np.ndarray, counts_q: np.ndarray) -> float:
    """Of the mean over questions of the mean reward of `counts_q` samples each."""
    mean_q = (expected_qa * reward_qa).sum(1)
    variance_q = (expected_qa * (reward_qa - mean_q[:, None]) ** 2).sum(1)
    return float(np.sqrt((variance_q / counts_q).sum()) / len(counts_q))


@pytest.fixture
def world() -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """A policy that likes bad actions better, rewards 0 … 1 in an order of each question's own, and randomness."""
    rng = np.random.default_rng(0)
    reward_qa = np.stack([rng.permutation(ACTIONS) for _ in range(QUESTIONS)]) / (ACTIONS - 1)
    policy_qa = np.exp(-reward_qa)
    return policy_qa / policy_qa.sum(1, keepdims=True), reward_qa, rng


def test_rest_algorithm_1_rises_over_improve_steps_to_the_closed_form(world) -> None:
    policy_qa, reward_qa, rng = world
    settings = ImproveSettings(thresholds=(0.5, 0.6, 0.8), per_question=None)
    sampled_qn = grown(policy_qa, rng)
    means = [mean_reward(policy_qa, reward_qa)]
    for threshold in settings.thresholds:
        counts_qa = improved(sampled_qn, reward_qa, settings, threshold)
        expected_qa = conditioned(policy_qa, reward_qa > threshold)
        counts_q = counts_qa.sum(1)
        means.append(mean_reward(counts_qa / counts_q[:, None], reward_qa))
        error = standard_error(expected_qa, reward_qa, counts_q)
        assert means[-1] == pytest.approx(mean_reward(expected_qa, reward_qa), abs=SIGMAS * error)
        share = counts_qa.sum() / sampled_qn.size
        expected_share = float((policy_qa * (reward_qa > threshold)).sum(1).mean())
        spread = np.sqrt(expected_share * (1 - expected_share) / sampled_qn.size)
        assert share == pytest.approx(expected_share, abs=SIGMAS * spread)
    assert np.all(np.diff(means) > 0)


def test_rest_algorithm_1_reaches_the_optimum_in_further_grows(world) -> None:
    policy_qa, reward_qa, rng = world
    expected_qa = policy_qa
    settings = ImproveSettings(per_question=None)
    for threshold in (0.5, 0.75, 0.95):
        counts_qa = improved(grown(policy_qa, rng), reward_qa, settings, threshold)
        expected_qa = conditioned(expected_qa, reward_qa > threshold)
        policy_qa = counts_qa / counts_qa.sum(1, keepdims=True)
        assert np.abs(policy_qa - expected_qa).max() < 0.1
    assert mean_reward(policy_qa, reward_qa) == mean_reward(expected_qa, reward_qa) == 1.0


def test_strictness_decides_at_a_reward_that_many_share(world) -> None:
    policy_qa, reward_qa, rng = world
    at = 6 / (ACTIONS - 1)
    counts_qa = improved(grown(policy_qa, rng), reward_qa, ImproveSettings(per_question=None), at)
    assert counts_qa[reward_qa <= at].sum() == 0
    assert counts_qa[reward_qa > at].all()


def test_rest_em_section_3_fits_the_policy_given_that_it_is_right(world) -> None:
    policy_qa, reward_qa, rng = world
    right_qa = (reward_qa > 0.6).astype(float)
    settings = ImproveSettings(thresholds=(0.5,), per_question=None)
    expected_qa = conditioned(policy_qa, right_qa)
    for _ in range(2):  # with a reward of 0 or 1, all is gained in the first iteration
        counts_qa = improved(grown(policy_qa, rng), right_qa, settings, 0.5)
        policy_qa = counts_qa / counts_qa.sum(1, keepdims=True)
        assert mean_reward(policy_qa, right_qa) == 1.0
        assert mean_reward(policy_qa, reward_qa) == pytest.approx(
            mean_reward(expected_qa, reward_qa),
            abs=SIGMAS * np.sqrt(2) * standard_error(expected_qa, reward_qa, counts_qa.sum(1)),
        )


@pytest.mark.parametrize("quantile", [0.5, 0.75, 0.9])
def test_raft_by_rest_section_5_keeps_the_mean_of_the_tail_above_a_quantile(quantile: float) -> None:
    """Rewards uniform on [0, 1]: above the quantile p their mean is (1 + p) / 2.

    The asymptotic variance of a tail mean with an estimated quantile q:
    [Var(r | r > q) + p (E[r | r > q] - q)^2] / (n (1 - p)).
    """
    n = 20_000
    drawn = np.random.default_rng(1).random(n)
    rewards = {str(i): float(reward) for i, reward in enumerate(drawn)}
    settings = ImproveSettings(thresholds=(quantile,), filter="percentile", per_question=None)
    chosen = keep(rewards, {id: str(int(id) % 50) for id in rewards}, settings, quantile)
    rest = 1 - quantile
    error = np.sqrt((rest**2 / 12 + quantile * (rest / 2) ** 2) / (n * rest))
    assert np.mean([rewards[id] for id in chosen]) == pytest.approx((1 + quantile) / 2, abs=SIGMAS * error)
    assert len(chosen) == pytest.approx(n * rest, abs=1)


def test_rest_appendix_a7_interpolation_passes_half_of_the_way_to_the_best(world) -> None:
    policy_qa, reward_qa, rng = world
    settings = ImproveSettings(thresholds=(0.5,), filter="interpolated", per_question=None)
    counts_qa = improved(grown(policy_qa, rng), reward_qa, settings, 0.5)
    cut_q = 0.5 * 1.0 + 0.5 * (policy_qa * reward_qa).sum(1)  # every question's best action is drawn among so many
    expected_qa = conditioned(policy_qa, reward_qa > cut_q[:, None])
    counts_q = counts_qa.sum(1)
    assert mean_reward(counts_qa / counts_q[:, None], reward_qa) == pytest.approx(
        mean_reward(expected_qa, reward_qa), abs=SIGMAS * standard_error(expected_qa, reward_qa, counts_q)
    )
