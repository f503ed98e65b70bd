"""Draws follow the tempered, filtered distribution, and a row's draw is its own."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rest_jax.sampling.draw import draw
from rest_jax.sampling.state import Phase, Rows, idle_rows

B, V = 4096, 600
LOGITS = jax.random.normal(jax.random.key(3), (V,)) * 2


def rows(count: int, **fields) -> Rows:
    """Running rows with a key each."""
    keys = jax.random.key_data(jax.random.split(jax.random.key(5, impl="threefry2x32"), count))
    given = {name: jnp.full(count, value, getattr(idle_rows(1), name).dtype) for name, value in fields.items()}
    return replace(idle_rows(count), phase=jnp.full(count, Phase.RUNNING, jnp.int32), key=keys, **given)


def drawn(count: int = B, **fields) -> np.ndarray:
    tokens, _ = jax.jit(draw)(jnp.tile(LOGITS, (count, 1)), rows(count, **fields))
    return np.asarray(tokens)


def assert_follows(tokens: np.ndarray, probs: np.ndarray) -> None:
    """Every token's count within five standard deviations of its expectation."""
    counts = np.bincount(tokens, minlength=V)
    assert np.all(counts[probs == 0] == 0)
    deviation = np.sqrt(len(tokens) * probs * (1 - probs))
    assert np.all(np.abs(counts - len(tokens) * probs) <= 5 * deviation + 5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_draws_follow_the_tempered_distribution(temperature):
    assert_follows(drawn(temperature=temperature), np.asarray(jax.nn.softmax(LOGITS / temperature)))


def test_temperature_zero_is_greedy():
    assert set(drawn(8, temperature=0)) == {int(jnp.argmax(LOGITS))}


def expected_kept(top_k: int, top_p: float) -> np.ndarray:
    """The filtered distribution by sorting."""
    order = np.argsort(-np.asarray(LOGITS), kind="stable")[: top_k or V]
    probs = np.asarray(jax.nn.softmax(LOGITS))[order]
    probs /= probs.sum()
    kept = order[: int(np.searchsorted(np.cumsum(probs), top_p)) + 1] if top_p < 1 else order
    result = np.zeros(V)
    result[kept] = np.asarray(jax.nn.softmax(LOGITS[kept]))
    return result


@pytest.mark.parametrize(("top_k", "top_p"), [(1, 1.0), (5, 1.0), (0, 0.6), (0, 0.05), (20, 0.7), (V, 0.999)])
def test_filters_keep_what_they_say(top_k, top_p):
    probs = expected_kept(top_k, top_p)
    tokens = drawn(temperature=1.0, top_k=top_k, top_p=top_p)
    assert_follows(tokens, probs)
    if (probs > 0).sum() < 30:
        assert set(tokens) == set(np.flatnonzero(probs))


@pytest.mark.parametrize(("min_p", "temperature"), [(0.2, 1.0), (0.05, 1.0), (0.2, 2.0), (1.0, 1.0)])
def test_min_p_keeps_what_is_likely_beside_the_likeliest(min_p, temperature):
    probs = np.asarray(jax.nn.softmax(LOGITS / temperature))
    kept = np.where(probs >= min_p * probs.max() * (1 - 1e-6), probs, 0)
    assert 0 < np.count_nonzero(kept) < V
    assert_follows(drawn(temperature=temperature, min_p=min_p), kept / kept.sum())


def test_min_p_and_the_other_filters_together():
    both = set(drawn(temperature=1.0, min_p=0.1, top_k=5))
    assert both == set(drawn(temperature=1.0, min_p=0.1)) & set(drawn(temperature=1.0, top_k=5))


def test_log_probs_are_untempered_and_unfiltered():
    logits = jnp.tile(LOGITS, (8, 1))
    tokens, logprobs = jax.jit(draw)(logits, rows(8, temperature=2.0, top_k=3))
    np.testing.assert_allclose(logprobs, jax.nn.log_softmax(LOGITS)[tokens], rtol=0, atol=2e-6)


def test_a_draw_does_not_depend_on_what_neighbours_do():
    logits = jax.random.normal(jax.random.key(1), (6, V)) * 2
    alike = rows(6, temperature=1.0)
    mixed = replace(
        alike,
        temperature=jnp.asarray([1, 0, 1, 0.3, 1, 1.0]),
        top_k=jnp.asarray([0, 0, 4, 0, 0, 0]),
        top_p=jnp.asarray([1, 1, 1, 0.5, 1, 1.0]),
        min_p=jnp.asarray([0, 0, 0, 0.3, 0, 0]),
        phase=alike.phase.at[4].set(Phase.IDLE),
    )
    own = np.asarray([0, 5])
    for left, right in zip(jax.jit(draw)(logits, alike), jax.jit(draw)(logits, mixed), strict=True):
        assert np.array_equal(np.asarray(left)[own], np.asarray(right)[own])


def test_positions_and_keys_make_different_draws():
    tokens = np.asarray([drawn(64, temperature=1.7, position=position) for position in range(4)])
    assert len({tuple(row) for row in tokens}) == 4
    assert len(set(tokens[0])) > 10


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_logits_that_are_not_finite_show_in_their_own_row_only(bad):
    logits = jnp.tile(LOGITS, (3, 1)).at[1, 7].set(bad)
    tokens, logprobs = jax.jit(draw)(logits, rows(3, temperature=1.0))
    good_tokens, good_logprobs = jax.jit(draw)(jnp.tile(LOGITS, (3, 1)), rows(3, temperature=1.0))
    assert np.asarray(jnp.isfinite(logprobs)).tolist() == [True, False, True]
    own = np.asarray([0, 2])
    assert np.array_equal(tokens[own], good_tokens[own])
    assert np.array_equal(logprobs[own], good_logprobs[own])
