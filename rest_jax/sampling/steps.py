"""The device core: pure, compiled functions over weights, cache and rows.

Chunks are `extend`ed onto the cached histories of a few rows; a block of tokens is decoded for all rows together. The
last token of a transcript is never extended: the next decode step caches it and draws what follows, so the first token
of a reply is drawn by the same program as all others.

Layers are unrolled over per-layer buffers, which are donated: scanning over layers with the cache copies it whole for
every token. The number of steps of a block is static: a dynamic loop makes a GPU's host wait after each token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rest_jax.models import attention, decoder
from rest_jax.models.config import ModelConfig
from rest_jax.models.products import by_rows
from rest_jax.sampling.draw import draw
from rest_jax.sampling.layout import Layout
from rest_jax.sampling.state import Cache, Phase, Rows, Shared, candidate_key
from rest_jax.sampling.stops import ENDED, STOPPED
from rest_jax.sampling.weights import View, head_vd


class Block(NamedTuple):
    """What a block produced, for every step and row: arrays [steps, B]."""

    tokens: jax.Array
    """int32."""
    logprobs: jax.Array
    """f32."""
    valid: jax.Array
    """bool: the row was running and its logits were finite."""


class Beginnings(NamedTuple):
    """The shared beginnings of some rows."""

    shared: Shared
    start: Any
    """int32 [B]: where in `shared` each row's lies."""
    tokens: Any
    """int32 [B]: how long it is."""

    def of_layer(self, index: int) -> attention.Shared:
        return attention.Shared(self.shared.keys[index], self.shared.values[index], self.start, self.tokens)


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=3)
def extend(
    config: ModelConfig,
    layout: Layout,
    weights: View,
    cache: Cache,
    row_e: jax.Array,
    start_e: jax.Array,
    ids_et: jax.Array,
    beginnings: Beginnings | None = None,
) -> Cache:
    """The cache with ids_et int32 [E, T] at slots start … start + T - 1 of E rows (start + T ≤ S).

    Padding at a chunk's end writes beyond its row's length, where nothing is read. A row may stand there twice with
    the same chunk (so a batch is filled up): it is written twice with the same bits.
    """
    return _extend(config, layout, weights, cache, row_e, start_e, ids_et, beginnings)[0]


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=3)
def score(
    config: ModelConfig,
    layout: Layout,
    weights: View,
    cache: Cache,
    row: jax.Array,
    start: jax.Array,
    ids_t: jax.Array,
    next_t: jax.Array,
    beginnings: Beginnings | None = None,
) -> tuple[Cache, jax.Array]:
    """`extend`, and the f32 log-probs [T] of the tokens next_t int32 [T] that follow each of ids_t."""
    cache, x_1td = _extend(config, layout, weights, cache, row[None], start[None], ids_t[None], beginnings)
    logprobs_tv = jax.nn.log_softmax(_logits(config, layout, weights, x_1td[0]), axis=-1)
    return cache, jnp.take_along_axis(logprobs_tv, next_t[:, None], axis=-1)[:, 0]


@partial(jax.jit, static_argnums=(0, 1, 6), donate_argnums=(3, 4))
def decode_block(
    config: ModelConfig,
    layout: Layout,
    weights: View,
    cache: Cache,
    rows: Rows,
    table: jax.Array,
    steps: int,
    shared: Shared | None = None,
) -> tuple[Cache, Rows, Block]:
    """`steps` tokens for every running row. `table` uint16 [states, V] is the stop table (`stops.StopTable.rows`).
    With `shared`, rows may have a beginning there.

    A row freezes in the step in which it ends. A frozen row repeats its last step's work at the same place, which is
    beyond its length: what it has cached stays as it is.
    """

    def step(carry: tuple[Cache, Rows], _: None) -> tuple[tuple[Cache, Rows], Block]:
        cache, rows = carry
        beginnings = None if shared is None else Beginnings(shared, rows.start, rows.shared)
        cache, x_b1d = _forward(
            config,
            layout,
            weights,
            cache,
            rows.token[:, None],
            rows.length[:, None],
            _write_all(rows.length),
            beginnings,
        )
        token_b, logprob_b = draw(_logits(config, layout, weights, x_b1d[:, 0]), rows)
        rows, valid_b = _advance(rows, table, token_b, jnp.isfinite(logprob_b))
        return (cache, jax.lax.with_sharding_constraint(rows, layout.whole)), Block(token_b, logprob_b, valid_b)

    (cache, rows), block = jax.lax.scan(step, (cache, rows), length=steps)
    return cache, rows, block


@partial(jax.jit, donate_argnums=0)
def place(rows: Rows, row: jax.Array, values: Rows) -> Rows:
    """The rows with one of them set to `values`: scalar fields, and `key` as the words uint32 [8] of a `KeyPath`.

    The key is made here: made apart, it would be one more dispatch for every reply, and one more array to move.
    """
    values = replace(values, key=candidate_key(values.key))
    return jax.tree.map(lambda field, value: field.at[row].set(value), rows, values)


@jax.jit
def read_row(cache: Cache, row: jax.Array) -> Cache:
    """A copy of one row of the cache: buffers [1, ...]."""
    return jax.tree.map(lambda buffer: jax.lax.dynamic_slice_in_dim(buffer, row, 1), cache)


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def share(config: ModelConfig, shared: Shared, content: Cache, start: jax.Array, tokens: jax.Array) -> Shared:
    """The shared beginnings with the first `tokens` of a row's (`content`: buffers [1, ...] of P tokens) at `start`."""

    def write(axis: int, buffer: jax.Array, part: jax.Array) -> jax.Array:
        places_p = jnp.arange(buffer.shape[axis]) - start
        mask_p = (places_p >= 0) & (places_p < tokens)
        mask = mask_p if axis == -1 else mask_p[:, None]
        return jnp.where(mask, jnp.roll(part[0], start, axis), buffer)

    k_axis, v_axis = attention.backend(config.attention).token_axes
    return Shared(
        tuple(map(partial(write, k_axis), shared.keys, content.keys)),
        tuple(map(partial(write, v_axis), shared.values, content.values)),
    )


@partial(jax.jit, donate_argnums=0)
def write_row(cache: Cache, row: jax.Array, content: Cache) -> Cache:
    """The cache with one row's beginning replaced by `content` (buffers [1, ...] of the same or a smaller width)."""

    def write(buffer: jax.Array, part: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice(buffer, part, (row, 0, 0, 0))

    return jax.tree.map(write, cache, content)


Write = Callable[[jax.Array, jax.Array, int], tuple[jax.Array, jax.Array]]
"""(buffer of keys or values, x_btkh, axis of its tokens) -> it updated, and its rows that are attended to."""


def _forward(
    config: ModelConfig,
    layout: Layout,
    weights: View,
    cache: Cache,
    ids_bt: jax.Array,
    slots_bt: jax.Array,
    write: Write,
    beginnings: Beginnings | None,
) -> tuple[Cache, jax.Array]:
    """All layers over new tokens that go to these slots of their rows: the updated cache and x_btd."""
    keys, values = list(cache.keys), list(cache.values)
    positions_bt = slots_bt if beginnings is None else slots_bt + beginnings.tokens[:, None]
    backend = attention.backend(config.attention)
    k_axis, v_axis = backend.token_axes
    x_btd = decoder.embed(config, weights, ids_bt)
    for index, layer in enumerate(weights["layers"]):

        def attend(
            q_btnh: jax.Array, k_btkh: jax.Array, v_btkh: jax.Array, spec: attention.Spec, index: int = index
        ) -> jax.Array:
            written = (*write(keys[index], k_btkh, k_axis), *write(values[index], v_btkh, v_axis))
            keys[index], k_bkhs, values[index], v_bksh = jax.lax.with_sharding_constraint(written, layout.cache)
            shared = None if beginnings is None else beginnings.of_layer(index)
            return backend.cached(q_btnh, k_bkhs, v_bksh, spec, slots_bt, shared)

        kind = decoder.layer_kind(config, index)
        x_btd = decoder.apply_block(config, kind, layer, x_btd, positions_bt, attend, by_rows)
    return Cache(tuple(keys), tuple(values)), x_btd


def _extend(
    config: ModelConfig,
    layout: Layout,
    weights: View,
    cache: Cache,
    row_e: jax.Array,
    start_e: jax.Array,
    ids_et: jax.Array,
    beginnings: Beginnings | None,
) -> tuple[Cache, jax.Array]:
    slots_et = start_e[:, None] + jnp.arange(ids_et.shape[1])

    def write(buffer: jax.Array, x_etkh: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
        chunks = jnp.moveaxis(x_etkh, 1, axis)
        # One slice after the other: XLA's CPU backend would scatter element by element.
        for e in range(len(ids_et)):
            at = [row_e[e], 0, 0, 0]
            at[axis] = start_e[e]
            buffer = jax.lax.dynamic_update_slice(buffer, chunks[e : e + 1], at)
        return buffer, buffer[row_e]

    return _forward(config, layout, weights, cache, ids_et, slots_et, write, beginnings)


def _write_all(length_b: jax.Array) -> Write:
    """Writes one token into each row, at that row's length."""

    def write(buffer: jax.Array, x_b1kh: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
        in_row = partial(jax.lax.dynamic_update_slice_in_dim, axis=axis)
        buffer = jax.vmap(in_row)(buffer, jnp.moveaxis(x_b1kh, 1, axis), length_b)
        return buffer, buffer

    return write


def _logits(config: ModelConfig, layout: Layout, weights: View, x: jax.Array) -> jax.Array:
    """f32 logits [..., V].

    Each device computes those of its tokens, and then gathers all, so that it draws by the same program as one alone.
    """
    normed = decoder.final_norm(config, weights, x)
    logits = by_rows(normed, head_vd(weights), preferred_element_type=jnp.float32)
    logits = attention.softcapped(logits, config.logit_softcap)
    # Said of both sides: of the whole alone, the compiler would rather gather the head.
    logits = jax.lax.with_sharding_constraint(logits, layout.logits)
    return jax.lax.with_sharding_constraint(logits, layout.whole)


def _advance(rows: Rows, table: jax.Array, token_b: jax.Array, finite_b: jax.Array) -> tuple[Rows, jax.Array]:
    """The rows after a drawn token, and which draws count."""
    running_b = rows.phase == Phase.RUNNING
    valid_b = running_b & finite_b
    stop_b = table[rows.stop, token_b].astype(jnp.int32)
    phase_b = jnp.select(
        [~finite_b, stop_b == STOPPED, stop_b == ENDED, rows.budget <= 1],
        [jnp.int32(Phase.NONFINITE), jnp.int32(Phase.STOP), jnp.int32(Phase.EOS), jnp.int32(Phase.LENGTH)],
        jnp.int32(Phase.RUNNING),
    )
    taken_b = valid_b.astype(jnp.int32)
    advanced = Rows(
        phase=jnp.where(running_b, phase_b, rows.phase),
        token=jnp.where(valid_b, token_b, rows.token),
        length=rows.length + taken_b,
        position=rows.position + taken_b,
        budget=rows.budget - taken_b,
        stop=jnp.where(valid_b, stop_b, rows.stop),
        key=rows.key,
        temperature=rows.temperature,
        top_k=rows.top_k,
        top_p=rows.top_p,
        min_p=rows.min_p,
        start=rows.start,
        shared=rows.shared,
    )
    return advanced, valid_b
