"""A mesh is a place, not a method: what is learned on eight devices is what one device learns."""

from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from training_world import largest_array, random_examples

from rest_jax.config.improve import ImproveSettings, MeshSettings
from rest_jax.core.errors import UserError
from rest_jax.core.events import silent
from rest_jax.distributed.rules import batch_sharding
from rest_jax.models import decoder
from rest_jax.models.config import ModelConfig
from rest_jax.training.checkpoint import Progress, open_checkpoints
from rest_jax.training.layout import layout, mesh_of
from rest_jax.training.loss import capacity_for
from rest_jax.training.optimizer import optimizer
from rest_jax.training.packing import batch_of, schedule
from rest_jax.training.step import abstract_state, initial_state, make_step, state_shardings

CONFIG = ModelConfig(vocab=192, width=32, layers=2, heads=8, kv_heads=4, head_dim=8, hidden=64, max_positions=64)
DEVICES, STEPS, ROWS, LENGTH = 8, 5, 8, 24
SGD = optax.trace(decay=0.0)
"""Its direction is the gradient, and its state holds that."""
EVERY_WAY = [shape for shape in product((1, 2, 4, 8), repeat=3) if np.prod(shape) == DEVICES]
VALID = [shape for shape in EVERY_WAY if CONFIG.kv_heads % shape[2] == 0]


class Learned(NamedTuple):
    losses: list[float]
    grads: dict
    """Of the first step."""
    array: int
    """Elements of the largest one on a device."""


@pytest.fixture(scope="module")
def batches():
    examples = random_examples(24)
    plans = schedule(examples, steps=STEPS, rows=ROWS, length=LENGTH, seed=0)
    return [batch_of(examples, plan, LENGTH) for plan in plans]


@pytest.fixture(scope="module")
def params():
    return decoder.init(CONFIG, jax.random.key(0))


def learned(params, batches, shape):
    mesh, rate = mesh_of(MeshSettings(*shape)), jnp.float32(0.3)
    state, grads, losses = initial_state(params, SGD, state_shardings(CONFIG, SGD, mesh)), None, []
    placed = [jax.device_put(batch, batch_sharding(mesh)) for batch in batches]
    step = make_step(CONFIG, SGD, mesh, capacity=capacity_for(LENGTH, LENGTH)).lower(state, {}, placed[0], rate)
    # How well LLVM optimises is not what is tested, and half of the time.
    program = step.compile(compiler_options={"xla_backend_optimization_level": 0})
    for batch in placed:
        state, metrics = program(state, {}, batch, rate)
        losses.append(float(metrics.loss))
        grads = grads or jax.tree.map(np.asarray, state.opt_state.trace)
    return Learned(losses, grads, largest_array(program))


@pytest.fixture(scope="module")
def alone(params, batches):
    return learned(params, batches, (1, 1, 1))


def test_it_learns(alone):
    assert alone.losses[-1] < alone.losses[0] - 0.1


@pytest.mark.parametrize("shape", VALID, ids=str)
def test_eight_devices_learn_what_one_learns(alone, params, batches, shape):
    here = learned(params, batches, shape)
    np.testing.assert_allclose(here.losses, alone.losses, rtol=0, atol=1e-5)
    apart = jax.tree.map(lambda a, b: np.linalg.norm(b - a) / np.linalg.norm(a), alone.grads, here.grads)
    assert max(jax.tree.leaves(apart)) <= 1e-4
    assert here.array * DEVICES <= alone.array


def test_what_would_split_a_head_is_refused_with_the_sizes_that_do():
    refused = [shape for shape in EVERY_WAY if shape not in VALID]
    assert refused == [(1, 1, 8)]
    for shape in refused:
        with pytest.raises(UserError, match=r"tensor = 8 does not divide 4 kv_heads .* set tensor to one of 1, 2, 4$"):
            layout(CONFIG, mesh_of(MeshSettings(*shape)))


def test_what_eight_devices_keep_four_and_one_restore(batches, tmp_path):
    made, draw = optimizer(ImproveSettings()), np.random.default_rng(0)

    def over(shape):
        return abstract_state(CONFIG, made, state_shardings(CONFIG, made, mesh_of(MeshSettings(*shape))))

    def drawn(leaf):
        return jax.device_put(draw.normal(0, 0.1, leaf.shape).astype(leaf.dtype), leaf.sharding)

    @jax.jit
    def logits(params, batch):
        x_btd = decoder.hidden_states(CONFIG, params, batch.ids_bt, batch.positions_bt, batch.segments_bt)
        return decoder.logits(CONFIG, params, decoder.final_norm(CONFIG, params, x_btd))

    state = jax.tree.map(drawn, over((2, 2, 2)))
    kept, expected = jax.tree.map(np.asarray, state), np.asarray(logits(state.params, batches[0]))
    for shape in ((1, 2, 2), (1, 1, 1)):
        with open_checkpoints(tmp_path / str(shape), "inputs", silent) as checkpoints:
            checkpoints.save(state, Progress((1.0,)))
            state, _ = checkpoints.newest(like=over(shape))
        jax.tree.map(np.testing.assert_array_equal, state, kept)
        assert jax.tree.map(lambda leaf: leaf.sharding, state) == jax.tree.map(lambda leaf: leaf.sharding, over(shape))
        np.testing.assert_allclose(logits(state.params, batches[0]), expected, rtol=0, atol=1e-5)
