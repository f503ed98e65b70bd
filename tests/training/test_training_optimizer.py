"""The schedule and the decay mask."""

import jax
import jax.numpy as jnp
import numpy as np
from training_world import CONFIG

from rest_jax.config.settings import ImproveSettings
from rest_jax.models import decoder
from rest_jax.training.optimizer import learning_rate, matrices, optimizer


def test_the_learning_rate_warms_up_and_decays_to_a_tenth():
    rate = learning_rate(ImproveSettings(steps=30, warmup=4, learning_rate=1e-3))
    rates = np.array([rate(step) for step in range(31)])
    np.testing.assert_allclose(rates[:5], [2e-4, 4e-4, 6e-4, 8e-4, 1e-3], rtol=1e-5)
    assert (np.diff(rates[4:]) < 0).all()
    np.testing.assert_allclose(rates[30], 1e-4, rtol=1e-5)


def test_no_warmup_starts_at_the_peak():
    assert learning_rate(ImproveSettings(steps=5, warmup=0, learning_rate=1e-3))(0) == np.float32(1e-3)


def test_only_matrices_decay():
    mask = matrices(decoder.abstract_params(CONFIG))
    leaves = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in flat(mask)}
    assert {path for path, decays in leaves.items() if not decays} == {
        "norm",
        "blocks/attention/norm/scale",
        "blocks/feedforward/norm/scale",
    }
    assert leaves["embed"]
    assert leaves["blocks/feedforward/down/kernel"]


def test_settings_that_train_alike_share_one_optimizer():
    assert optimizer(ImproveSettings(thresholds=(0.1,))) is optimizer(ImproveSettings(thresholds=(0.9,)))
    assert optimizer(ImproveSettings(steps=10)) is optimizer(ImproveSettings(steps=20))
    assert optimizer(ImproveSettings(clip=1.0)) is not optimizer(ImproveSettings(clip=2.0))


def flat(tree):
    return jax.tree_util.tree_leaves_with_path(tree)


def test_a_huge_gradient_is_clipped():
    params = {"embed": jnp.ones((2, 3)), "norm": jnp.ones(3), "blocks": {"kernel": jnp.ones((1, 3, 3))}}
    made = optimizer(ImproveSettings(clip=0.5))
    update = jax.jit(lambda grads: made.update(grads, made.init(params), params)[1])
    moments = update(jax.tree.map(lambda leaf: leaf * 1e6, params))
    (first_moment,) = (leaf for path, leaf in flat(moments) if "mu" in str(path) and "embed" in str(path))
    np.testing.assert_allclose(first_moment, 0.1 * 0.5 / np.sqrt(18), rtol=1e-5)
