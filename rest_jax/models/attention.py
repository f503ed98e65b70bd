"""Attention, grouped-query, without materialising repeated keys: a registry of backends; `xla` works everywhere.

Axes: b rows, t query tokens, s key tokens, k key/value heads, g query heads per key/value head, h head channels.
Query heads are ordered key/value head first (n = k * G + g), as Llama's weights are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rest_jax.core.errors import UserError

_MASKED = -1e30
"""Finite, so that a row that sees nothing gets a uniform average and never a NaN."""


PARTS, LEAST_PART = 4, 128
"""Of a packed row, and the fewest tokens of one. Each meets the tokens up to its own end: 5/8 of all pairs, where no
more than half are seen. On a CPU attention is a fifth of a training step over rows of 512."""


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


class Shared(NamedTuple):
    """One layer's keys and values that several rows begin with, kept once: beginnings side by side."""

    k_khp: jax.Array
    v_kph: jax.Array
    start_b: jax.Array
    """int32: where the row's beginning lies."""
    tokens_b: jax.Array
    """int32: how long it is; 0 where the row has none."""


@dataclass(frozen=True)
class Case:
    """Where attention is to be computed, and over what."""

    platform: str
    """cpu, gpu or tpu."""
    head_dim: int
    dtype: str

    def __str__(self) -> str:
        return f"{self.platform}, heads of {self.head_dim}, {self.dtype}"


@dataclass(frozen=True)
class Backend:
    """One implementation of the two attentions, and the cache layout that it is fastest with."""

    packed_causal: Callable[[jax.Array, jax.Array, jax.Array, Spec, jax.Array], jax.Array]
    """(q_btnh, k_btkh, v_btkh, spec, segments_bt) -> o_btnh: see `packed_causal`."""
    cached: Callable[[jax.Array, jax.Array, jax.Array, Spec, jax.Array, Shared | None], jax.Array]
    """(q_btnh, k_bkhs, v_bksh, spec, positions_bt, shared) -> o_btnh: see `cached`."""
    token_axes: tuple[int, int]
    """Where the tokens lie in cached keys and in cached values, counted from the end of [..., K, H]: -1 is [..., K, H,
    S], -2 is [..., K, S, H]."""
    unfit: Callable[[Case], str]
    """Why it cannot serve a case; empty where it can."""


class Chosen(NamedTuple):
    """A backend's name, and why it is this one."""

    name: str
    why: str


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
    visible_bts = same_bts & causal_ts
    k_bkhs, v_bksh = k_btkh.transpose(0, 2, 3, 1), v_btkh.transpose(0, 2, 1, 3)

    def part(begin: int, end: int) -> jax.Array:
        visible = visible_bts[:, begin:end, :end]
        return _attend(q_btnh[:, begin:end], k_bkhs[..., :end], v_bksh[:, :, :end], spec, visible)

    step = max(-(-length // PARTS), LEAST_PART)
    return jnp.concatenate([part(begin, min(begin + step, length)) for begin in range(0, length, step)], axis=1)


def cached(
    q_btnh: jax.Array,
    k_bkhs: jax.Array,
    v_bksh: jax.Array,
    spec: Spec,
    positions_bt: jax.Array,
    shared: Shared | None = None,
) -> jax.Array:
    """Attention over a cache that already holds the chunk's own keys and values. Returns o_btnh in q's dtype.

    The query at position p sees cache slots 0..p, or the last of them where there is a window, so a chunk is causal by
    its positions alone; a negative position sees nothing (its output is finite and means nothing). Scores and softmax
    in f32. Slots that nobody sees must be finite. A layer with a window has a cache of full width all the same.

    Keys lie as [B, K, H, S] and values as [B, K, S, H]: both products then stream the cache in order, which on CPU
    is twice as fast for keys and three times for values as [B, S, K, H].

    With `shared`, slots and positions count from the end of the row's shared beginning, all of which a query sees as
    well (but for a window). The two parts are attended to apart and merged by their log-sum-exps; the shared part is
    one product for all rows together, so that its keys and values are read once.
    """
    slots_s = jnp.arange(k_bkhs.shape[3])
    visible_bts = slots_s <= positions_bt[:, :, None]
    if spec.window is not None:
        visible_bts &= slots_s > positions_bt[:, :, None] - spec.window
    if shared is None:
        return _attend(q_btnh, k_bkhs, v_bksh, spec, visible_bts)
    places_bp = jnp.arange(shared.k_khp.shape[2]) - shared.start_b[:, None]
    seen_btp = ((places_bp >= 0) & (places_bp < shared.tokens_b[:, None]))[:, None]
    if spec.window is not None:
        seen_btp &= places_bp[:, None] > (shared.tokens_b[:, None] + positions_bt)[:, :, None] - spec.window
    return _attend_both(q_btnh, k_bkhs, v_bksh, shared, spec, visible_bts, seen_btp)


BACKENDS: dict[str, Backend] = {"xla": Backend(packed_causal, cached, token_axes=(-1, -2), unfit=lambda case: "")}
"""The fastest first; the last serves every case. One comes in once it was measured to be faster on its hardware."""


def backend(name: str) -> Backend:
    """The backend of that name; UserError names those that there are."""
    if name not in BACKENDS:
        raise UserError(f"attention: no backend {name!r}; choose one of {', '.join(BACKENDS)}")
    return BACKENDS[name]


def choose(wanted: str, case: Case) -> Chosen:
    """The backend for a case: the one that is wanted by name, or by `auto` the first that serves it.

    UserError for an unknown name, and for one that does not serve the case.
    """
    if wanted != "auto":
        if unfit := backend(wanted).unfit(case):
            raise UserError(f"engine.attention: {wanted} does not serve {case}: {unfit}; set it to auto")
        return Chosen(wanted, f"attention: {wanted} ({case}), as engine.attention says")
    passed = list(takewhile(lambda entry: entry[1], ((name, one.unfit(case)) for name, one in BACKENDS.items())))
    name = tuple(BACKENDS)[len(passed)]
    return Chosen(name, "; ".join([f"attention: {name} ({case})", *(f"not {other}: {why}" for other, why in passed)]))


def softcapped(x: jax.Array, cap: float | None) -> jax.Array:
    """Values bounded smoothly to ±cap (Bello et al., 2017; Gemma 2); as they are when there is no cap."""
    return x if cap is None else cap * jnp.tanh(x / cap)


def _attend(q_btnh: jax.Array, k_bkhs: jax.Array, v_bksh: jax.Array, spec: Spec, visible_bts: jax.Array) -> jax.Array:
    """Softmax attention where a query sees what `visible_bts` says.

    Query heads and tokens fold into the rows of one matrix per key/value head: with five axes XLA's CPU backend copies
    keys and values into another layout first, which takes four times as long as the product.
    """
    q_bkmh = _folded(q_btnh, k_bkhs.shape[1], spec)
    scores_bkms = jnp.einsum("bkmh,bkhs->bkms", q_bkmh, k_bkhs, preferred_element_type=jnp.float32)
    return _unfolded(_weighed(_masked(scores_bkms, spec, visible_bts), v_bksh), q_btnh)


@jax.custom_vjp
def _weighed(scores_bkms: jax.Array, v_bksh: jax.Array) -> jax.Array:
    """Values weighed by the softmax of f32 scores.

    Its gradient is written out as flash attention has it (Dao et al., 2022, appendix B.2): the softmax's needs a sum
    over the output's channels where the derived one has it over all keys, and no product turns the probabilities round.
    On a CPU it takes half the time of the derived one.
    """
    return _weighed_with_residuals(scores_bkms, v_bksh)[0]


def _weighed_with_residuals(scores_bkms: jax.Array, v_bksh: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    probs_bkms = jax.nn.softmax(scores_bkms, axis=-1)
    o_bkmh = jnp.einsum("bkms,bksh->bkmh", probs_bkms.astype(v_bksh.dtype), v_bksh)
    return o_bkmh, (probs_bkms, v_bksh, o_bkmh)


def _weighed_gradients(kept: tuple[jax.Array, ...], grad_bkmh: jax.Array) -> tuple[jax.Array, jax.Array]:
    probs_bkms, v_bksh, o_bkmh = kept
    by_probs_bkms = jnp.einsum("bkmh,bksh->bkms", grad_bkmh, v_bksh, preferred_element_type=jnp.float32)
    grad_f32 = grad_bkmh.astype(jnp.float32)
    along_bkm = jnp.sum(grad_f32 * o_bkmh.astype(jnp.float32), axis=-1, keepdims=True)
    grad_bkhm = jax.lax.optimization_barrier(grad_bkmh.transpose(0, 1, 3, 2))
    by_v_bkhs = jnp.einsum("bkhm,bkms->bkhs", grad_bkhm, probs_bkms.astype(v_bksh.dtype))
    return probs_bkms * (by_probs_bkms - along_bkm), by_v_bkhs.transpose(0, 1, 3, 2)


_weighed.defvjp(_weighed_with_residuals, _weighed_gradients)


def _attend_both(
    q_btnh: jax.Array,
    k_bkhs: jax.Array,
    v_bksh: jax.Array,
    shared: Shared,
    spec: Spec,
    visible_bts: jax.Array,
    seen_btp: jax.Array,
) -> jax.Array:
    """Softmax attention over a row's own slots and its shared beginning."""
    q_bkmh = _folded(q_btnh, k_bkhs.shape[1], spec)
    own_bkms = jnp.einsum("bkmh,bkhs->bkms", q_bkmh, k_bkhs, preferred_element_type=jnp.float32)
    own_bkms, own_top_bkm, own_sum_bkm = _exponentials(_masked(own_bkms, spec, visible_bts))
    both_bkmp = _of_all_rows(q_bkmh, shared.k_khp)
    both_bkmp, both_top_bkm, both_sum_bkm = _exponentials(_masked(both_bkmp, spec, seen_btp))
    top_bkm = jnp.maximum(own_top_bkm, both_top_bkm)
    own_bkm, both_bkm = jnp.exp(own_top_bkm - top_bkm), jnp.exp(both_top_bkm - top_bkm)
    own_bkmh = jnp.einsum("bkms,bksh->bkmh", own_bkms.astype(v_bksh.dtype), v_bksh, preferred_element_type=jnp.float32)
    both_bkmh = _of_all_rows(both_bkmp.astype(v_bksh.dtype), shared.v_kph)
    total_bkm = own_bkm * own_sum_bkm + both_bkm * both_sum_bkm
    merged_bkmh = own_bkm[..., None] * own_bkmh + both_bkm[..., None] * both_bkmh
    return _unfolded(merged_bkmh / total_bkm[..., None], q_btnh)


def _of_all_rows(x_bkmi: jax.Array, y_kij: jax.Array) -> jax.Array:
    """The f32 product [B, K, M, J] with a matrix per key/value head that all rows share.

    The rows stand in one matrix before they meet it: left to itself the compiler makes the shared matrix the first
    operand, and for a single head copies it into another layout at every token.
    """
    b, k, m, i = x_bkmi.shape
    x_kri = x_bkmi.transpose(1, 0, 2, 3).reshape(k, b * m, i)
    y_krj = jnp.einsum("kri,kij->krj", x_kri, y_kij, preferred_element_type=jnp.float32)
    return y_krj.reshape(k, b, m, -1).transpose(1, 0, 2, 3)


def _folded(q_btnh: jax.Array, k: int, spec: Spec) -> jax.Array:
    """q_bkmh, scaled: query heads and tokens as the rows of one matrix for each of k key/value heads."""
    b, t, n, h = q_btnh.shape
    scaled_btnh = q_btnh * jnp.asarray(spec.scale, q_btnh.dtype)
    return scaled_btnh.reshape(b, t, k, n // k, h).transpose(0, 2, 3, 1, 4).reshape(b, k, -1, h)


def _unfolded(o_bkmh: jax.Array, q_btnh: jax.Array) -> jax.Array:
    """o_btnh, in shape and dtype as its queries."""
    (b, t, n, h), k = q_btnh.shape, o_bkmh.shape[1]
    return o_bkmh.reshape(b, k, n // k, t, h).transpose(0, 3, 1, 2, 4).reshape(q_btnh.shape).astype(q_btnh.dtype)


def _masked(scores_bkms: jax.Array, spec: Spec, visible_bts: jax.Array) -> jax.Array:
    b, k, m, s = scores_bkms.shape
    t = visible_bts.shape[1]
    scores_bkgts = softcapped(scores_bkms, spec.softcap).reshape(b, k, m // t, t, s)
    return jnp.where(visible_bts[:, None, None], scores_bkgts, _MASKED).reshape(scores_bkms.shape)


def _exponentials(scores_bkms: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Scores to exponentials below the greatest, the greatest, and their sum."""
    top_bkm = scores_bkms.max(axis=-1)
    exponentials_bkms = jnp.exp(scores_bkms - top_bkm[..., None])
    return exponentials_bkms, top_bkm, exponentials_bkms.sum(axis=-1)
