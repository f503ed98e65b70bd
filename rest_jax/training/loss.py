"""Cross-entropy of the learned tokens only: positions that carry no loss never meet the LM head.

The LM head is a fifth of a small model's work and its logits are the largest array of all, while an agent writes only
part of its transcript. So learned positions are gathered first, row by row (rows stay on their own devices), and the
head is applied to a few of them at a time; no [B, T, V] array exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

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
"""Of a row's learned positions a whole number of chunks of so many is gathered."""
AT_ONCE = 512
"""Positions of all rows whose logits exist at one time, at most, and of each row CHUNK at least: products of few rows
are slow, and the gradient by the head is added up once for each."""


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
    head = {name: params[name] for name in ("norm", "head" if "head" in params else "embed")}
    size = chunk_size(*places_bm.shape)
    gathered_bm = (x_bmd, gathered(batch.targets_bt), gathered(batch.weights_bt))
    return _summed(config, rows, head, *(_chunked(values_bm, size) for values_bm in gathered_bm))


_Gradients = tuple[Params, jax.Array]
"""By the parameters after the last block, and by the hidden states that meet them."""


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _summed(
    config: ModelConfig,
    rows: NamedSharding | None,
    head: Params,
    x_nbcd: jax.Array,
    targets_nbc: jax.Array,
    weights_nbc: jax.Array,
) -> jax.Array:
    """The weighted sum over n chunks of c positions."""
    return _with_gradients(config, rows, head, x_nbcd, targets_nbc, weights_nbc)[0]


def _with_gradients(
    config: ModelConfig,
    rows: NamedSharding | None,
    head: Params,
    x_nbcd: jax.Array,
    targets_nbc: jax.Array,
    weights_nbc: jax.Array,
) -> tuple[jax.Array, _Gradients]:
    """The sum and its gradients, taken while a chunk's logits are there, which are not computed again for them (as in
    Liger's fused loss; Hsu et al., 2024)."""

    def chunk_nll(head: Params, x_bcd: jax.Array, targets_bc: jax.Array, weights_bc: jax.Array) -> jax.Array:
        logits_bcv = decoder.logits(config, head, decoder.final_norm(config, head, decoder.placed(x_bcd, rows)))
        return jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits_bcv, targets_bc) * weights_bc)

    of_chunk = jax.value_and_grad(chunk_nll, argnums=(0, 1))

    def add(sums: tuple[jax.Array, Params], chunk: Sequence[jax.Array]) -> tuple[tuple[jax.Array, Params], jax.Array]:
        total, (into_head, into_x_bcd) = of_chunk(head, *chunk)
        return jax.tree.map(jnp.add, sums, (total, into_head)), into_x_bcd

    if len(x_nbcd) == 1:  # without a sum, of which a head's gradient would be a part as large as itself
        total, (into_head, into_x_bcd) = of_chunk(head, x_nbcd[0], targets_nbc[0], weights_nbc[0])
        return total, (into_head, into_x_bcd[None])
    nothing = (jnp.zeros((), jnp.float32), jax.tree.map(jnp.zeros_like, head))
    (total, into_head), into_x_nbcd = jax.lax.scan(add, nothing, (x_nbcd, targets_nbc, weights_nbc))
    return total, (into_head, into_x_nbcd)


def _scaled(
    config: ModelConfig, rows: NamedSharding | None, gradients: _Gradients, by: jax.Array
) -> tuple[Params, jax.Array, None, None]:
    return *jax.tree.map(lambda leaf: (by * leaf).astype(leaf.dtype), gradients), None, None


_summed.defvjp(_with_gradients, _scaled)


def _learned_places(weights_bt: jax.Array, capacity: int) -> jax.Array:
    """int32 [B, capacity]: each row's learned positions in order, then others, then T (beyond the row)."""
    length = weights_bt.shape[1]
    order_bt = jnp.argsort(weights_bt == 0, axis=1, stable=True)
    return jnp.pad(order_bt[:, :capacity], ((0, 0), (0, max(0, capacity - length))), constant_values=length)


def chunk_size(b: int, m: int) -> int:
    """The positions of a row that are taken at one time: all m of them in equal parts of whole CHUNKs."""
    fitting = (size for size in range(m, 0, -CHUNK) if m % size == 0 and b * size <= AT_ONCE)
    return next(fitting, CHUNK)


def _chunked(values_bm: jax.Array, size: int) -> jax.Array:
    """[B, M, ...] as [M / size, B, size, ...]."""
    b, m = values_bm.shape[:2]
    return jnp.moveaxis(values_bm.reshape(b, m // size, size, *values_bm.shape[2:]), 1, 0)
