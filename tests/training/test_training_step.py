"""One step: micro-batches make the step that their batch makes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_world import CONFIG, random_examples

from rest_jax.config.improve import MeshSettings
from rest_jax.distributed.rules import batch_sharding
from rest_jax.models import decoder
from rest_jax.training.layout import mesh_of
from rest_jax.training.loss import capacity_for
from rest_jax.training.packing import Batch, batch_of, micro_batches, schedule
from rest_jax.training.step import initial_state, make_step, state_shardings

ROWS, LENGTH = 8, 24
SGD = optax.trace(decay=0.0)
"""Its state holds the gradient."""


@pytest.fixture(scope="module")
def params():
    return decoder.init(CONFIG, jax.random.key(0))


def batch_with(seed):
    """Rows of which some learn many tokens, some few, and the last ones none, each at a weight of its own."""
    examples = random_examples(12, seed=seed)
    (plan,) = schedule(examples, steps=1, rows=ROWS, length=LENGTH, seed=0)
    batch = batch_of(examples, (*plan[:6], (), ()), LENGTH)
    weights_b = np.random.default_rng(seed).uniform(0.1, 3, (ROWS, 1)).astype(np.float32)
    return Batch(batch.ids_bt, batch.targets_bt, batch.weights_bt * weights_b, batch.positions_bt, batch.segments_bt)


def stepped(params, batch, accumulate, shape=(1, 1, 1)):
    mesh = mesh_of(MeshSettings(*shape))
    step = make_step(CONFIG, SGD, mesh, capacity=capacity_for(LENGTH, LENGTH), accumulate=accumulate)
    state = initial_state(params, SGD, state_shardings(CONFIG, SGD, mesh))
    return step(state, {}, jax.device_put(batch, batch_sharding(mesh)), jnp.float32(1e-3))


@pytest.mark.parametrize("accumulate", [2, 8])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=5, deadline=None)
def test_micro_batches_make_the_step_of_their_batch(params, accumulate, seed):
    batch = batch_with(seed)
    whole, parts = stepped(params, batch, 1), stepped(params, batch, accumulate)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), parts, whole)


def test_they_do_so_on_a_mesh(params):
    batch = batch_with(0)
    whole, parts = stepped(params, batch, 1), stepped(params, batch, 2, (2, 2, 2))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), parts, whole)


def test_a_rows_micro_batch_is_its_number_modulo_theirs():
    batch = batch_with(0)
    parts = micro_batches(batch, 2)
    for b in range(ROWS):
        np.testing.assert_array_equal(parts.ids_bt[b % 2, b // 2], batch.ids_bt[b])
