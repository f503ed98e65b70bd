"""Cross-entropy of the learned tokens only: positions that carry no loss never meet the LM head.

The LM head is a fifth of a small model's work and its logits are the largest array of all, while an agent writes only
part of its transcript. So learned positions are gathered first, row by row (rows stay on their own devices), and the
head is applied to a few of them at a time; no [B, T, V] array exists.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding

from rest_jax.config.improve import Remat
from rest_jax.models import decoder
from rest_jax.models.config import ModelConfig
from rest_jax.models.decoder import Params
from rest_jax.training.packing import Batch

CHUNK = 64
"""Positions of each row whose logits exist at one time."""


def capacity_for(most: int, length: int) -> int:
    """The static size that `nll` gathers `most` learned positions per row of `length` into: whole chunks, of half a
    row or of a whole one, so that the fits of a run rarely differ in it and share one compilation."""
    half = length // 2
    return -(-(half if most <= half else length) // CHUNK) * CHUNK


def nll(
    config: ModelConfig,
    params: Params,
    batch: Batch,
    *,
    capacity: int,
    rows: NamedSharding | None = None,
    remat: Remat = "minimal",
) -> jax.Array:
    """The weighted sum of negative log-likelihoods, an f32 scalar; divided by the sum of weights it is the loss.

    A sum, because callers normalise over more than one batch. `capacity` (static, a multiple of `CHUNK`) must be at
    least the learned positions of every row. A token of weight 0 has exactly no part in value or gradient, except as
    context. `rows` and `remat` as of `decoder.hidden_states`.
    """
    x_btd = decoder.hidden_states(config, params, batch.ids_bt, batch.positions_bt, batch.segments_bt, rows, remat)
    return nll_of_hidden(config, params, x_btd, batch, capacity=capacity, rows=rows)


def nll_of_hidden(
    config: ModelConfig,
    params: Params,
    x_btd: jax.Array,
    batch: Batch,
    *,
    capacity: int,
    rows: NamedSharding | None = None,
) -> jax.Array:
    """The same of a batch's hidden states (`decoder.hidden_states`): of the parameters it reads the final norm and the
    head alone."""
    places_bm = _learned_places(batch.weights_bt, capacity)

    def gathered(values_bt: jax.Array) -> jax.Array:
        return jnp.take_along_axis(values_bt, places_bm, axis=1, mode="fill", fill_value=0)

    x_bmd = jnp.take_along_axis(x_btd, places_bm[..., None], axis=1, mode="fill", fill_value=0)
    targets_bm, weights_bm = gathered(batch.targets_bt), gathered(batch.weights_bt)

    @jax.checkpoint
    def chunk_nll(x_bcd: jax.Array, targets_bc: jax.Array, weights_bc: jax.Array) -> jax.Array:
        x_bcd = decoder.final_norm(config, params, decoder.placed(x_bcd, rows))
        logits_bcv = decoder.logits(config, params, x_bcd)
        nll_bc = optax.softmax_cross_entropy_with_integer_labels(logits_bcv, targets_bc)
        return jnp.sum(nll_bc * weights_bc)

    def add(total: jax.Array, chunk: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        return total + chunk_nll(*chunk), None

    chunks = (_chunked(x_bmd), _chunked(targets_bm), _chunked(weights_bm))
    total, _ = jax.lax.scan(add, jnp.zeros((), jnp.float32), chunks)
    return total


def _learned_places(weights_bt: jax.Array, capacity: int) -> jax.Array:
    """int32 [B, capacity]: each row's learned positions in order, then others, then T (beyond the row)."""
    length = weights_bt.shape[1]
    order_bt = jnp.argsort(weights_bt == 0, axis=1, stable=True)
    return jnp.pad(order_bt[:, :capacity], ((0, 0), (0, max(0, capacity - length))), constant_values=length)


def _chunked(values_bm: jax.Array) -> jax.Array:
    """[B, M, ...] as [M / CHUNK, B, CHUNK, ...]."""
    b, m = values_bm.shape[:2]
    return jnp.moveaxis(values_bm.reshape(b, m // CHUNK, CHUNK, *values_bm.shape[2:]), 1, 0)
