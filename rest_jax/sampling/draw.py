"""Drawing one token per row: temperature, top-k, top-p, min-p, and a random key that names the token alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rest_jax.sampling.state import Phase, Rows

_GROUP = 256
"""Tokens per group of the two-stage draw."""


def draw(logits_bv: jax.Array, rows: Rows) -> tuple[jax.Array, jax.Array]:
    """Tokens int32 [B], and their log-probs f32 [B].

    `logits_bv` are f32. Log-probs are untempered and over the full vocabulary; one that is not finite tells that the
    row's logits were not. Temperature 0 takes the likeliest token, the lowest id among equals. Top-k comes before
    top-p (the smallest set whose tempered, renormalised probability reaches it); tokens that tie with the last one
    kept are kept too. Min-p leaves out those of tempered probability below its share of the likeliest's (Nguyen et al.,
    2024), which no renormalisation changes.

    A row's draw reads its own logits, settings and key only: whether a neighbour filters or samples decides what is
    computed, never a value.
    """
    running_b, samples_b = rows.phase == Phase.RUNNING, rows.temperature > 0
    sampled_b = jax.lax.cond(jnp.any(running_b & samples_b), _sampled, _nothing, logits_bv, rows)
    likeliest_b = jax.lax.cond(jnp.any(running_b & ~samples_b), _likeliest, _nothing, logits_bv, rows)
    token_b = jnp.where(samples_b, sampled_b, likeliest_b)
    below_bv = logits_bv - jnp.max(logits_bv, axis=-1, keepdims=True)
    chosen_b = jnp.take_along_axis(below_bv, token_b[:, None], axis=-1)[:, 0]
    return token_b, chosen_b - jnp.log(jnp.sum(jnp.exp(below_bv), axis=-1))


def _nothing(logits_bv: jax.Array, rows: Rows) -> jax.Array:
    return jnp.zeros(logits_bv.shape[0], jnp.int32)


def _likeliest(logits_bv: jax.Array, rows: Rows) -> jax.Array:
    """By two plain reductions: XLA's argmax is five times slower on a CPU."""
    ids_bv = jax.lax.broadcasted_iota(jnp.int32, logits_bv.shape, 1)
    last = logits_bv.shape[-1] - 1  # where a row is not finite, and none of them is the greatest
    greatest_bv = logits_bv == jnp.max(logits_bv, axis=-1, keepdims=True)
    return jnp.min(jnp.where(greatest_bv, ids_bv, last), axis=-1)


def _sampled(logits_bv: jax.Array, rows: Rows) -> jax.Array:
    """A Gumbel-max draw in two stages, a group of tokens and then a token of the group: noise for C + 256 instead of V
    values (on a CPU, noise for a whole vocabulary costs as much as a third of a small model)."""
    tempered_bv = logits_bv / jnp.where(rows.temperature > 0, rows.temperature, 1)[:, None]
    filters_b = (rows.top_k > 0) | (rows.top_p < 1) | (rows.min_p > 0)
    filtered_bv = jax.lax.cond(
        jnp.any((rows.phase == Phase.RUNNING) & filters_b), _filtered, lambda x_bv, rows: x_bv, tempered_bv, rows
    )
    groups = -(-filtered_bv.shape[-1] // _GROUP)
    missing = groups * _GROUP - filtered_bv.shape[-1]
    padded_bv = jnp.pad(filtered_bv, ((0, 0), (0, missing)), constant_values=-jnp.inf)
    grouped_bcg = padded_bv.reshape(-1, groups, _GROUP)
    top_b11 = jnp.max(grouped_bcg, axis=(1, 2), keepdims=True)
    mass_bc = jnp.log(jnp.sum(jnp.exp(grouped_bcg - top_b11), axis=-1))

    def one(key_data: jax.Array, position: jax.Array, mass_c: jax.Array, grouped_cg: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.wrap_key_data(key_data, impl="threefry2x32"), position)
        noise = jax.random.gumbel(key, (groups + _GROUP,), jnp.float32)
        group = jnp.argmax(mass_c + noise[:groups])
        return group * _GROUP + jnp.argmax(grouped_cg[group] + noise[groups:])

    return jax.vmap(one)(rows.key, rows.position, mass_bc, grouped_bcg).astype(jnp.int32)


def _filtered(tempered_bv: jax.Array, rows: Rows) -> jax.Array:
    """The logits, minus infinity for the tokens that top-k, top-p and min-p leave out; no sort of the vocabulary. A
    filter that no running row uses is not computed."""
    running_b = rows.phase == Phase.RUNNING
    kept_bv = tempered_bv
    for used_b, one in ((rows.top_k > 0, _top_k), (rows.top_p < 1, _top_p), (rows.min_p > 0, _min_p)):
        kept_bv = jax.lax.cond(jnp.any(running_b & used_b), one, lambda x_bv, rows: x_bv, kept_bv, rows)
    return kept_bv


def _top_k(x_bv: jax.Array, rows: Rows) -> jax.Array:
    ranks_bv = _ascending(x_bv)
    cut_b = _cut(ranks_bv, jnp.ones_like(x_bv), rows.top_k.astype(jnp.float32))
    return jnp.where((ranks_bv >= cut_b[:, None]) | (rows.top_k <= 0)[:, None], x_bv, -jnp.inf)


def _top_p(x_bv: jax.Array, rows: Rows) -> jax.Array:
    ranks_bv = _ascending(x_bv)
    cut_b = _cut(ranks_bv, jax.nn.softmax(x_bv, axis=-1), rows.top_p)
    return jnp.where((ranks_bv >= cut_b[:, None]) | (rows.top_p >= 1)[:, None], x_bv, -jnp.inf)


def _min_p(x_bv: jax.Array, rows: Rows) -> jax.Array:
    least_b = jnp.max(x_bv, axis=-1) + jnp.log(rows.min_p)  # minus infinity where all are kept
    return jnp.where(x_bv >= least_b[:, None], x_bv, -jnp.inf)


def _ascending(x: jax.Array) -> jax.Array:
    """f32 as uint32 in the same order."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    return jnp.where(bits >> 31 == 1, ~bits, bits | jnp.uint32(1 << 31))


def _cut(ranks_bv: jax.Array, weights_bv: jax.Array, target_b: jax.Array) -> jax.Array:
    """uint32 [B]: the greatest rank such that the tokens at or above it weigh `target_b`; found bit by bit.

    0, which keeps all, when all together do not weigh as much.
    """

    def narrow(index: jax.Array, cut_b: jax.Array) -> jax.Array:
        higher_b = cut_b | (jnp.uint32(1 << 31) >> index.astype(jnp.uint32))
        weight_b = jnp.sum(jnp.where(ranks_bv >= higher_b[:, None], weights_bv, 0), axis=-1)
        return jnp.where(weight_b >= target_b, higher_b, cut_b)

    return jax.lax.fori_loop(0, 32, narrow, jnp.zeros(ranks_bv.shape[0], jnp.uint32))
