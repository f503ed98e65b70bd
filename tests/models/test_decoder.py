"""The decoder: one block serves scan and unrolled loops; packing, caching and computing anew change no result."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rest_jax.core.errors import UserError
from rest_jax.models import attention, decoder
from rest_jax.models.axes import parameter_axes
from rest_jax.models.config import Llama3Rope, ModelConfig
from rest_jax.models.rope import inverse_frequencies, rotate, rotation

CONFIG = ModelConfig(
    vocab=97, width=48, layers=2, heads=6, kv_heads=2, head_dim=8, hidden=80, max_positions=64, tied=True
)
UNTIED = ModelConfig(
    vocab=97, width=48, layers=2, heads=4, kv_heads=4, head_dim=8, hidden=80, max_positions=64, tied=False
)


@pytest.fixture(scope="module")
def params(random_params) -> decoder.Params:
    return random_params(CONFIG)


def _batch(rows: int = 2, length: int = 16) -> tuple[jax.Array, jax.Array, jax.Array]:
    ids_bt = jnp.asarray(np.random.default_rng(1).integers(CONFIG.vocab, size=(rows, length)), jnp.int32)
    positions_bt = jnp.tile(jnp.arange(length), (rows, 1))
    return ids_bt, positions_bt, jnp.ones((rows, length), jnp.int32)


def _normal(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def _unrolled(config: ModelConfig, params, ids_bt, positions_bt, segments_bt) -> jax.Array:
    attend = partial(attention.packed_causal, segments_bt=segments_bt)
    x_btd = decoder.embed(config, params, ids_bt)
    for index in range(config.layers):
        kind, layer = decoder.layer_kind(config, index), decoder.layer(params, index)
        x_btd = decoder.apply_block(config, kind, layer, x_btd, positions_bt, attend)
    return x_btd


def test_scan_equals_unrolled_bit_for_bit(params) -> None:
    scanned = jax.jit(partial(decoder.hidden_states, CONFIG))(params, *_batch())
    unrolled = jax.jit(partial(_unrolled, CONFIG))(params, *_batch())
    assert scanned.shape == (2, 16, CONFIG.width)
    np.testing.assert_array_equal(scanned, unrolled)


@pytest.mark.parametrize("remat", ["minimal", "full"])
def test_computing_anew_changes_neither_value_nor_gradient(params, remat) -> None:
    def loss(forward, params):
        return jnp.square(forward(CONFIG, params, *_batch())).sum()

    plain, plain_grad = jax.jit(jax.value_and_grad(partial(loss, _unrolled)))(params)
    forward = partial(decoder.hidden_states, remat=remat)
    anew, anew_grad = jax.jit(jax.value_and_grad(partial(loss, forward)))(params)
    np.testing.assert_allclose(plain, anew, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), plain_grad, anew_grad)


def test_computing_whole_layers_anew_takes_less_memory() -> None:
    deep = replace(CONFIG, layers=12)

    def bytes_of(remat) -> int:
        def loss(params):
            return decoder.hidden_states(deep, params, *_batch(4, 64), remat=remat).sum()

        program = jax.jit(jax.grad(loss)).lower(decoder.abstract_params(deep)).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert bytes_of("full") < 0.6 * bytes_of("minimal")


def test_packed_segments_do_not_see_each_other(params) -> None:
    """Row 0 packs the tokens of rows 1 and 2, which stand alone; all are padded to one length."""
    first, second = _batch(2, 6)[0].tolist()
    rows = [(first[:4], second), (first[:4],), (second,)]

    def padded(fill) -> jax.Array:
        flat = [[value for index, part in enumerate(row) for value in fill(index, part)] for row in rows]
        return jnp.array([row + [0] * (13 - len(row)) for row in flat])

    ids_bt, positions_bt = padded(lambda _, part: part), padded(lambda _, part: range(len(part)))
    segments_bt = padded(lambda index, part: [index + 1] * len(part))
    x_btd = jax.jit(partial(decoder.hidden_states, CONFIG))(params, ids_bt, positions_bt, segments_bt)
    np.testing.assert_allclose(x_btd[0, :4], x_btd[1, :4], atol=1e-6)
    np.testing.assert_allclose(x_btd[0, 4:10], x_btd[2, :6], atol=1e-6)
    assert np.isfinite(x_btd).all()


def test_later_tokens_change_nothing_before_them(params) -> None:
    ids_bt, positions_bt, segments_bt = _batch()
    changed = ids_bt.at[:, 9:].add(1) % CONFIG.vocab
    run = jax.jit(partial(decoder.hidden_states, CONFIG))
    before, after = run(params, ids_bt, positions_bt, segments_bt), run(params, changed, positions_bt, segments_bt)
    np.testing.assert_array_equal(before[:, :9], after[:, :9])
    assert (before[:, 9] != after[:, 9]).any()


@partial(jax.jit, static_argnames="start")
def _decode_chunk(params, caches, ids_bt, start: int):
    """One chunk through every layer over per-layer caches, as a sampler does it."""
    positions_bt = start + jnp.broadcast_to(jnp.arange(ids_bt.shape[1]), ids_bt.shape)
    x_btd, written = decoder.embed(CONFIG, params, ids_bt), []
    for index, (old_k_bkhs, old_v_bksh) in enumerate(caches):

        def attend(q_btnh, k_btkh, v_btkh, spec, old_k_bkhs=old_k_bkhs, old_v_bksh=old_v_bksh):
            end = start + k_btkh.shape[1]
            k_bkhs = old_k_bkhs.at[..., start:end].set(k_btkh.transpose(0, 2, 3, 1))
            v_bksh = old_v_bksh.at[:, :, start:end].set(v_btkh.transpose(0, 2, 1, 3))
            written.append((k_bkhs, v_bksh))
            return attention.cached(q_btnh, k_bkhs, v_bksh, spec, positions_bt)

        kind, layer = decoder.layer_kind(CONFIG, index), decoder.layer(params, index)
        x_btd = decoder.apply_block(CONFIG, kind, layer, x_btd, positions_bt, attend)
    return x_btd, written


def test_decoding_over_a_cache_equals_the_packed_forward(params) -> None:
    ids_bt, positions_bt, segments_bt = _batch(2, 12)
    whole = jax.jit(partial(decoder.hidden_states, CONFIG))(params, ids_bt, positions_bt, segments_bt)
    b, k, h, s = 2, CONFIG.kv_heads, CONFIG.head_dim, 20
    caches = [(jnp.zeros((b, k, h, s)), jnp.zeros((b, k, s, h)))] * CONFIG.layers
    pieces = []
    for start, end in [(0, 9), (9, 12)]:
        x_btd, caches = _decode_chunk(params, caches, ids_bt[:, start:end], start)
        pieces.append(x_btd)
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, atol=2e-6)


def test_a_query_that_sees_nothing_is_finite() -> None:
    q_btnh, k_bkhs, v_bksh = jnp.ones((1, 2, 4, 8)), jnp.ones((1, 2, 8, 6)), jnp.ones((1, 2, 6, 8))
    for window in (None, 1, 3):
        o_btnh = attention.cached(q_btnh, k_bkhs, v_bksh, attention.Spec(1.0, window=window), jnp.array([[-1, 0]]))
        assert np.isfinite(o_btnh).all()


@pytest.mark.parametrize("t", [7, attention.LEAST_PART + 1, attention.PARTS * attention.LEAST_PART + 7])
def test_attention_equals_the_textbook_with_repeated_heads(t: int) -> None:
    q_btnh, k_btkh, v_btkh = _normal(2, t, 6, 8), _normal(2, t, 2, 8, seed=1), _normal(2, t, 2, 8, seed=2)
    textbook = jax.jit(partial(jax.nn.dot_product_attention, is_causal=True))(q_btnh, k_btkh, v_btkh)
    attend = partial(attention.packed_causal, spec=attention.Spec(8**-0.5), segments_bt=jnp.ones((2, t), jnp.int32))
    np.testing.assert_allclose(jax.jit(attend)(q_btnh, k_btkh, v_btkh), textbook, atol=1e-6)


def test_a_window_holds_so_many_tokens_of_its_own_segment() -> None:
    """Values are one-hot by place, scores are equal: the output says who was seen."""
    window, segments_bt = 3, jnp.array([[1, 1, 1, 1, 1, 2, 2, 2]])
    q_btnh, k_btkh, v_btkh = jnp.ones((1, 8, 2, 8)), jnp.ones((1, 8, 1, 8)), jnp.eye(8)[None, :, None]
    spec = attention.Spec(8**-0.5, window=window)
    seen_ts = attention.packed_causal(q_btnh, k_btkh, v_btkh, spec, segments_bt)[0, :, 0] > 0
    expected_ts = [
        [before <= at and at - before < window and segments_bt[0, at] == segments_bt[0, before] for before in range(8)]
        for at in range(8)
    ]
    np.testing.assert_array_equal(seen_ts, expected_ts)

    k_bkhs, v_bksh, positions_bt = k_btkh.transpose(0, 2, 3, 1), v_btkh.transpose(0, 2, 1, 3), jnp.arange(8)[None]
    seen_ts = attention.cached(q_btnh, k_bkhs, v_bksh, spec, positions_bt)[0, :, 0] > 0
    expected_ts = [[before <= at and at - before < window for before in range(8)] for at in range(8)]
    np.testing.assert_array_equal(seen_ts, expected_ts)


def test_a_softcap_bounds_scores_before_the_mask() -> None:
    """Two keys with scores 100 and 0: capped at 1, the weights are those of tanh(100) = 1 and 0."""
    q_btnh, k_btkh = jnp.full((1, 3, 1, 2), 10.0), jnp.asarray([5.0, 0.0, 7.0])[None, :, None, None] * jnp.ones(2)
    v_btkh, segments_bt = jnp.eye(3)[None, :, None, :2], jnp.ones((1, 3), jnp.int32)
    o_btnh = attention.packed_causal(q_btnh, k_btkh, v_btkh, attention.Spec(1.0, softcap=1.0), segments_bt)
    np.testing.assert_allclose(o_btnh[0, 1, 0], np.exp([1.0, 0.0]) / (1 + np.e), rtol=1e-6)


def test_attention_is_the_configs_backend(params) -> None:
    assert attention.backend(CONFIG.attention).cached is attention.cached
    with pytest.raises(UserError, match="no backend 'flash9'; choose one of xla"):
        decoder.hidden_states(replace(CONFIG, attention="flash9"), params, *_batch())


def test_bfloat16_computes_in_bfloat16_with_f32_logits(random_params) -> None:
    params = random_params(CONFIG, jnp.bfloat16)
    x_btd = jax.jit(partial(decoder.hidden_states, CONFIG))(params, *_batch())
    assert x_btd.dtype == jnp.bfloat16
    assert decoder.logits(CONFIG, params, decoder.final_norm(CONFIG, params, x_btd)).dtype == jnp.float32


@pytest.mark.parametrize("config", [CONFIG, UNTIED])
def test_head_and_shapes(config: ModelConfig, random_params) -> None:
    params = random_params(config)
    assert ("head" in params) is (not config.tied)
    x = _normal(5, config.width)
    expected = np.asarray(x) @ (np.asarray(params["embed"]).T if config.tied else np.asarray(params["head"]))
    np.testing.assert_allclose(decoder.logits(config, params, x), expected, atol=1e-5)
    axes = jax.tree.map(len, parameter_axes(config), is_leaf=lambda node: isinstance(node, tuple))
    assert axes == jax.tree.map(jnp.ndim, params)


def test_init_draws_every_layer_anew() -> None:
    params = decoder.init(UNTIED, jax.random.key(0))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, decoder.abstract_params(UNTIED))
    first, second = decoder.layer(params, 0), decoder.layer(params, 1)
    assert (np.asarray(first["attention"]["query"]["kernel"]) != second["attention"]["query"]["kernel"]).any()
    assert float(np.std(first["feedforward"]["up"]["kernel"])) == pytest.approx(0.02, rel=0.1)
    assert (np.asarray(params["norm"]) == 1).all()


def test_rotation_is_relative_and_keeps_length() -> None:
    q, k = _normal(2, 1, 1, 1, 8)
    frequencies_h = inverse_frequencies(CONFIG)

    def turned(x: jax.Array, position: int) -> jax.Array:
        return rotate(x, rotation(jnp.array([[position]]), frequencies_h))

    dots = [float(jnp.vdot(turned(q, m), turned(k, n))) for m, n in [(3, 1), (12, 10), (1, 3)]]
    assert dots[0] == pytest.approx(dots[1], abs=1e-5)
    assert dots[0] != pytest.approx(dots[2], abs=1e-3)
    assert float(jnp.linalg.norm(turned(q, 40))) == pytest.approx(float(jnp.linalg.norm(q)))


def test_llama3_frequencies_equal_transformers() -> None:
    """Values of transformers' `_compute_llama3_parameters` are recomputed here from its published formula."""
    scaling = Llama3Rope(32.0, 1.0, 4.0, 8192)
    config = ModelConfig(97, 64, 1, 1, 1, 64, 64, 131072, rope_theta=500000.0, rope_scaling=scaling)
    plain = 1.0 / 500000.0 ** (np.arange(0, 64, 2) / 64)
    expected = []
    for frequency in plain:
        wavelength = 2 * np.pi / frequency
        if wavelength < 8192 / 4.0:
            expected.append(frequency)
        elif wavelength > 8192 / 1.0:
            expected.append(frequency / 32.0)
        else:
            smooth = (8192 / wavelength - 1.0) / (4.0 - 1.0)
            expected.append((1 - smooth) * frequency / 32.0 + smooth * frequency)
    np.testing.assert_allclose(inverse_frequencies(config), expected, rtol=1e-6)
