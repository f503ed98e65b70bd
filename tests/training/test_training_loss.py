"""The loss against a naive one, and what must have no part in it."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_world import CONFIG, example, largest_array, random_examples

from rest_jax.models import decoder
from rest_jax.training import loss
from rest_jax.training.loss import CHUNK, capacity_for, chunk_size, nll, nll_of_hidden
from rest_jax.training.packing import Batch, batch_of, most_learned, schedule

ROWS, LENGTH = 2, 48


@pytest.fixture(scope="module")
def params():
    made = decoder.init(CONFIG, jax.random.key(0))
    return jax.tree.map(lambda leaf: leaf * 3 if leaf.ndim > 1 else leaf, made)


@pytest.fixture(scope="module")
def batch():
    examples = random_examples(6)
    (plan,) = schedule(examples, steps=1, rows=ROWS, length=LENGTH, seed=0)
    assert capacity_for(most_learned(examples, [plan]), LENGTH) == CHUNK
    return batch_of(examples, plan, LENGTH)


def naive(params, batch, config=CONFIG):
    """Logits of every position, then the weighted mean of the targets' negative log-likelihoods."""
    x_btd = decoder.hidden_states(config, params, batch.ids_bt, batch.positions_bt, batch.segments_bt)
    return naive_of_hidden(config, params, x_btd, batch)


def naive_of_hidden(config, params, x_btd, batch):
    logprobs = jax.nn.log_softmax(decoder.logits(config, params, decoder.final_norm(config, params, x_btd)))
    picked = jnp.take_along_axis(logprobs, batch.targets_bt[..., None], axis=2)[..., 0]
    return -(picked * batch.weights_bt).sum() / batch.weights_bt.sum()


@partial(jax.jit, static_argnames=("capacity", "config"))
def nll_and_grads(params, batch, capacity=CHUNK, config=CONFIG):
    """(sum of negative log-likelihoods, its gradients, sum of weights)."""

    def total_of(params):
        return nll(config, params, batch, capacity=capacity)

    return *jax.value_and_grad(total_of)(params), batch.weights_bt.sum()


def assert_close(tree, expected, tolerance=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), tree, expected)


def assert_same_bits(tree, expected):
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), tree, expected)


@pytest.fixture(scope="module")
def expected(params, batch):
    return jax.jit(jax.value_and_grad(naive))(params, batch)


@pytest.mark.parametrize("capacity", [CHUNK, 2 * CHUNK])
def test_it_equals_the_naive_loss(params, batch, expected, capacity):
    total, grads, weight = nll_and_grads(params, batch, capacity=capacity)
    assert_close((total / weight, jax.tree.map(lambda leaf: leaf / weight, grads)), expected)


def test_a_head_of_its_own_learns_in_the_embedding_s_place(batch):
    untied = replace(CONFIG, tied=False)
    params = decoder.init(untied, jax.random.key(0))
    total, grads, weight = nll_and_grads(params, batch, config=untied)
    expected = jax.jit(jax.value_and_grad(partial(naive, config=untied)))(params, batch)
    assert_close((total / weight, jax.tree.map(lambda leaf: leaf / weight, grads)), expected)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_masked_targets_and_padding_have_no_influence_at_all(params, batch, seed):
    draw = np.random.default_rng(seed)
    noise = draw.integers(0, CONFIG.vocab, (ROWS, LENGTH)).astype(np.int32)
    changed = Batch(
        ids_bt=jnp.where(batch.segments_bt == 0, noise, batch.ids_bt),
        targets_bt=jnp.where(batch.weights_bt == 0, noise, batch.targets_bt),
        weights_bt=batch.weights_bt,
        positions_bt=batch.positions_bt,
        segments_bt=batch.segments_bt,
    )
    assert (changed.targets_bt != batch.targets_bt).any()
    assert_same_bits(nll_and_grads(params, changed), nll_and_grads(params, batch))


def test_what_follows_the_last_learned_token_has_no_influence(params):
    learn = [0, 0, 1, 0, 0, 0]
    batch, other = (batch_of([example([1, 2, 3, *rest], learn)], ((0,), ()), LENGTH) for rest in ([4, 5, 6], [9, 9, 9]))
    assert_same_bits(nll_and_grads(params, other), nll_and_grads(params, batch))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_packed_equals_unpacked(params, seed):
    examples = random_examples(4, seed=seed)
    packed = nll_and_grads(params, batch_of(examples, ((0, 1), (2, 3)), LENGTH))
    alone = [nll_and_grads(params, batch_of(examples, rows, LENGTH)) for rows in (((0,), (2,)), ((1,), (3,)))]
    assert_close(packed, jax.tree.map(lambda a, b: a + b, *alone))


def test_weights_weigh(params):
    examples = [example([3, 1, 4, 1, 5], [0, 1, 1, 1, 1], weight) for weight in (1, 0.25, 2)]
    plain, quarter, double = (nll_and_grads(params, batch_of(examples, ((i,), ()), LENGTH)) for i in range(3))
    assert_close(quarter, jax.tree.map(lambda leaf: leaf / 4, plain))
    assert_close(double, jax.tree.map(lambda leaf: leaf * 2, plain))
    assert plain[2] == 4


@pytest.mark.parametrize(
    ("rows", "learned", "size"),
    [
        (1, 64, 64),
        (1, 256, 256),
        (1, 1024, 512),
        (2, 256, 256),
        (2, 512, 256),
        (1, 7 * 64, 7 * 64),
        (8, 512, 64),
        (32, 512, 64),
    ],
)
def test_as_many_positions_are_taken_at_once_as_make_whole_products(rows, learned, size):
    assert chunk_size(rows, learned) == size


def test_logits_exist_for_one_chunk_at_a_time(params, batch, monkeypatch):
    monkeypatch.setattr(loss, "AT_ONCE", ROWS * CHUNK)
    wide = 3 * CHUNK
    many = Batch(*(jnp.tile(leaf, (1, 4)) for leaf in jax.tree.leaves(batch)))
    program = nll_and_grads.lower(params, many, capacity=wide).as_text()
    assert f"tensor<{ROWS}x{CHUNK}x{CONFIG.vocab}xf32>" in program
    assert f"x{4 * LENGTH}x{CONFIG.vocab}xf32>" not in program
    assert f"x{wide}x{CONFIG.vocab}xf32>" not in program


def test_its_memory_is_a_fraction_of_the_naive_losss():
    """Of value and gradient given hidden states, every token learned, SmolLM2's vocabulary; compiled and never run."""
    config, (rows, length) = replace(CONFIG, vocab=49_152, width=576), (8, 1024)
    x_btd = jax.ShapeDtypeStruct((rows, length, config.width), jnp.float32)
    ints, floats = (jax.ShapeDtypeStruct((rows, length), dtype) for dtype in (jnp.int32, jnp.float32))
    batch = Batch(ints, ints, floats, ints, ints)

    def chunked(params, x_btd, batch):
        total = nll_of_hidden(config, params, x_btd, batch, capacity=capacity_for(length, length))
        return total / batch.weights_bt.sum()

    def compiled(loss):
        step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
        return step.lower(decoder.abstract_params(config), x_btd, batch).compile()

    ours, naives = compiled(chunked), compiled(partial(naive_of_hidden, config))
    assert bytes_beside_arguments(ours) <= 0.4 * bytes_beside_arguments(naives)
    assert largest_array(ours) < rows * length * config.vocab <= largest_array(naives)


def bytes_beside_arguments(program):
    memory = program.memory_analysis()
    return memory.temp_size_in_bytes + memory.output_size_in_bytes
