"""Attention, grouped-query, without materialising repeated keys: a registry of backends; `xla` works everywhere.

Axes: b rows, t query tokens, s key tokens, k key/value heads, g query heads per key/value head, h head channels.
Query heads are ordered key/value head first (n = k * G + g), as Llama's weights are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from rest_jax.core.errors import UserError

_MASKED = -1e30
"""Finite, so that a row that sees nothing gets a uniform average and never a NaN."""


@dataclass(frozen=True)
class Spec:
    """What one layer's attention computes, apart from who belongs to whom."""

    scale: float
    """Scores are multiplied by it."""
    softcap: float | None = None
    """Scores s become softcap x tanh(s / softcap), before anything is masked; None leaves them."""
    window: int | jax.Array | None = None
    """A query sees this many tokens, itself the last of them; None is all before it. An int32 [] where layers that
    differ in it are scanned over."""


@dataclass(frozen=True)
class Backend:
    """One implementation of the two attentions, and the cache layout that it is fastest with."""

    packed_causal: Callable[[jax.Array, jax.Array, jax.Array, Spec, jax.Array], jax.Array]
    """(q_btnh, k_btkh, v_btkh, spec, segments_bt) -> o_btnh: see `packed_causal`."""
    cached: Callable[[jax.Array, jax.Array, jax.Array, Spec, jax.Array], jax.Array]
    """(q_btnh, k_bkhs, v_bksh, spec, positions_bt) -> o_btnh: see `cached`."""


def packed_causal(
    q_btnh: jax.Array, k_btkh: jax.Array, v_btkh: jax.Array, spec: Spec, segments_bt: jax.Array
) -> jax.Array:
    """Causal attention within each segment of packed rows; segment 0 is padding. Returns o_btnh in q's dtype.

    Scores and softmax in f32. A token sees earlier tokens of its own segment and itself.
    """
    same_bts = segments_bt[:, :, None] == segments_bt[:, None, :]
    length = segments_bt.shape[1]
    causal_ts = jnp.tri(length, dtype=bool)
    if spec.window is not None:
        places_t = jnp.arange(length)
        causal_ts &= places_t[:, None] - places_t < spec.window
    return _attend(q_btnh, k_btkh.transpose(0, 2, 3, 1), v_btkh.transpose(0, 2, 1, 3), spec, same_bts & causal_ts)


def cached(q_btnh: jax.Array, k_bkhs: jax.Array, v_bksh: jax.Array, spec: Spec, positions_bt: jax.Array) -> jax.Array:
    """Attention over a cache that already holds the chunk's own keys and values. Returns o_btnh in q's dtype.

    The query at position p sees cache slots 0..p, or the last of them where there is a window, so a chunk is causal by
    its positions alone; a negative position sees nothing (its output is finite and means nothing). Scores and softmax
    in f32. Slots that nobody sees must be finite. A layer with a window has a cache of full width all the same.

    Keys lie as [B, K, H, S] and values as [B, K, S, H]: both products then stream the cache in order, which on CPU
    is twice as fast for keys and three times for values as [B, S, K, H].
    """
    slots_s = jnp.arange(k_bkhs.shape[3])
    visible_bts = slots_s <= positions_bt[:, :, None]
    if spec.window is not None:
        visible_bts &= slots_s > positions_bt[:, :, None] - spec.window
    return _attend(q_btnh, k_bkhs, v_bksh, spec, visible_bts)


BACKENDS: dict[str, Backend] = {"xla": Backend(packed_causal, cached)}


def backend(name: str) -> Backend:
    """The backend of that name; UserError names those that there are."""
    if name not in BACKENDS:
        raise UserError(f"attention: no backend {name!r}; choose one of {', '.join(BACKENDS)}")
    return BACKENDS[name]


def softcapped(x: jax.Array, cap: float | None) -> jax.Array:
    """Values bounded smoothly to ±cap (Bello et al., 2017; Gemma 2); as they are when there is no cap."""
    return x if cap is None else cap * jnp.tanh(x / cap)


def _attend(q_btnh: jax.Array, k_bkhs: jax.Array, v_bksh: jax.Array, spec: Spec, visible_bts: jax.Array) -> jax.Array:
    """Softmax attention where a query sees what `visible_bts` says.

    Query heads and tokens fold into the rows of one matrix per key/value head: with five axes XLA's CPU backend copies
    keys and values into another layout first, which takes four times as long as the product.
    """
    b, t, n, h = q_btnh.shape
    k, s = k_bkhs.shape[1], k_bkhs.shape[3]
    scaled_btnh = q_btnh * jnp.asarray(spec.scale, q_btnh.dtype)
    q_bkmh = scaled_btnh.reshape(b, t, k, n // k, h).transpose(0, 2, 3, 1, 4).reshape(b, k, -1, h)
    scores_bkms = jnp.einsum("bkmh,bkhs->bkms", q_bkmh, k_bkhs, preferred_element_type=jnp.float32)
    scores_bkgts = softcapped(scores_bkms, spec.softcap).reshape(b, k, n // k, t, s)
    masked_bkgts = jnp.where(visible_bts[:, None, None], scores_bkgts, _MASKED)
    probs_bkms = jax.nn.softmax(masked_bkgts, axis=-1).astype(v_bksh.dtype).reshape(b, k, -1, s)
    o_bkmh = jnp.einsum("bkms,bksh->bkmh", probs_bkms, v_bksh)
    return o_bkmh.reshape(b, k, n // k, t, h).transpose(0, 3, 1, 2, 4).reshape(q_btnh.shape).astype(q_btnh.dtype)
