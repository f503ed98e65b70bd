"""ReST on a reward whose optimum is known, with a decoder for a policy and the real fit for Improve."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_world import CONFIG, example

from rest_jax.config.improve import ImproveSettings
from rest_jax.core.events import silent
from rest_jax.models import decoder
from rest_jax.training.fit import fit
from rest_jax.training.mixture import keep

ACTIONS = CONFIG.vocab
SAMPLES = 400
SIGMAS = 5
UNFITTED = 0.005
"""What 60 optimizer steps leave of the probability of what was not kept costs at most this much mean reward."""
REWARD_QA = np.stack([np.arange(ACTIONS), np.arange(ACTIONS)[::-1]]) / (ACTIONS - 1)
"""Two questions, the tokens 0 and 1, with opposite tastes; an action is the one token that answers."""


def policy_of(params: decoder.Params) -> np.ndarray:
    """The distribution over answers to each question, [question, action]."""
    ids_bt = jnp.arange(len(REWARD_QA))[:, None]
    x_btd = decoder.hidden_states(CONFIG, params, ids_bt, jnp.zeros_like(ids_bt), jnp.ones_like(ids_bt))
    logits_bv = decoder.logits(CONFIG, params, decoder.final_norm(CONFIG, params, x_btd))[:, 0]
    chances_bv = np.asarray(jax.nn.softmax(logits_bv, axis=-1), np.float64)
    return chances_bv / chances_bv.sum(1, keepdims=True)


@pytest.mark.slow
def test_rest_algorithm_1_on_a_decoder_reaches_the_closed_form(tmp_path: Path) -> None:
    params = decoder.init(CONFIG, jax.random.key(0))
    first_qa, rng = policy_of(params), np.random.default_rng(0)
    sampled = {
        f"{q}#{n}": (q, int(action))
        for q, row in enumerate(first_qa)
        for n, action in enumerate(rng.choice(ACTIONS, SAMPLES, p=row))
    }
    rewards = {id: float(REWARD_QA[place]) for id, place in sampled.items()}
    settings = ImproveSettings(
        thresholds=(0.5, 0.75, 0.9),
        per_question=None,
        steps=60,
        rows=8,
        length=200,
        learning_rate=3e-2,
        rate_decay=0.5,
        checkpoint_every=1_000,
    )
    means = [float((first_qa * REWARD_QA).sum(1).mean())]
    for step, threshold in enumerate(settings.thresholds, 1):
        kept = keep(rewards, {id: id[0] for id in rewards}, settings, threshold)
        examples = [example(sampled[id], [False, True]) for id in kept]
        folder = tmp_path / str(step)
        params = fit(
            CONFIG, params, examples, settings.at(step), start="w", seed=step, folder=folder, emit=silent
        ).params
        means.append(float((policy_of(params) * REWARD_QA).sum(1).mean()))

        passing_qa = first_qa * (threshold < REWARD_QA)
        expected_qa = passing_qa / passing_qa.sum(1, keepdims=True)
        mean_q = (expected_qa * REWARD_QA).sum(1)
        variance_q = (expected_qa * (REWARD_QA - mean_q[:, None]) ** 2).sum(1)
        counts_q = np.bincount([sampled[id][0] for id in kept])
        error = np.sqrt((variance_q / counts_q).sum()) / len(counts_q)
        assert means[-1] == pytest.approx(mean_q.mean(), abs=SIGMAS * error + UNFITTED)
    assert np.all(np.diff(means) > 0)
