"""The decoder: one Flax NNX block, stacked parameters around it, and pure functions over a plain pytree.

Families differ in what their config says, nowhere else. Parameters are a nested dict of arrays, so that samplers,
optimizers and checkpoints see nothing but a pytree:

    embed   [V, D]
    blocks  every leaf stacked over layers, [L, ...]
      attention     norm/scale [L, D]  query/kernel [L, D, N*H]  key/kernel, value/kernel [L, D, K*H]
                    output/kernel [L, N*H, D]
                    query/bias [L, N*H]  key/bias, value/bias [L, K*H], with `qkv_bias`
                    query_norm/scale, key_norm/scale [L, H], with `qk_norm`
      feedforward   norm/scale [L, D]  gate/kernel, up/kernel [L, D, F]  down/kernel [L, F, D]
      both          post_norm/scale [L, D], with `post_norms`
    norm    [D]
    head    [D, V], when the config is untied

Kernels lie as [in, out]. The compute dtype is the parameters'; norms, rotations, softmax and logits are f32. There is
no dropout.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding

from rest_jax.config.improve import Remat
from rest_jax.models import attention
from rest_jax.models.config import ModelConfig
from rest_jax.models.products import by_columns, by_rows
from rest_jax.models.rope import inverse_frequencies, rotate, rotation

Params = dict[str, Any]
DotGeneral = Callable[..., jax.Array]
"""`jax.lax.dot_general` for kernels as they lie in the parameters, or what takes its place for others."""
Attend = Callable[[jax.Array, jax.Array, jax.Array, attention.Spec], jax.Array]
"""(q_btnh, k_btkh, v_btkh, spec) -> o_btnh, given by the caller: packed causal in training, the cache in decoding."""

_INITIAL = nnx.initializers.normal(0.02)
_ACTIVATIONS = {"silu": jax.nn.silu, "gelu_tanh": partial(jax.nn.gelu, approximate=True)}

_KEPT: dict[Remat, Callable[..., bool]] = {
    "minimal": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


class LayerKind(NamedTuple):
    """In what layers of one model may differ, beside their parameters. Where layers are scanned over, so is this."""

    frequencies_h: Any
    """f32 [H/2]: `rope.inverse_frequencies`."""
    window: Any
    """int or int32 []: `attention.Spec.window`; None where a query sees all before it."""


class RMSNorm(nnx.Module):
    """Scales to unit root mean square over `size` channels, in f32 (Zhang and Sennrich, 2019)."""

    def __init__(self, config: ModelConfig, size: int, dtype: jnp.dtype):
        self.config = config
        self.scale = nnx.Param(_initial_scale(config, size, dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        return _rms_norm(self.config, x, self.scale[...])


class Attention(nnx.Module):
    """Grouped-query attention with rotary positions; who is attended to is the caller's affair."""

    def __init__(self, config: ModelConfig, dtype: jnp.dtype, dot_general: DotGeneral, rngs: nnx.Rngs):
        linear = _linear(dtype, dot_general, rngs)
        self.config = config
        self.norm = RMSNorm(config, config.width, dtype)
        self.query = linear(config.width, config.heads * config.head_dim, use_bias=config.qkv_bias)
        self.key = linear(config.width, config.kv_heads * config.head_dim, use_bias=config.qkv_bias)
        self.value = linear(config.width, config.kv_heads * config.head_dim, use_bias=config.qkv_bias)
        self.output = linear(config.heads * config.head_dim, config.width)
        if config.qk_norm:
            self.query_norm = RMSNorm(config, config.head_dim, dtype)
            self.key_norm = RMSNorm(config, config.head_dim, dtype)
        if config.post_norms:
            self.post_norm = RMSNorm(config, config.width, dtype)

    def __call__(self, x_btd: jax.Array, positions_bt: jax.Array, kind: LayerKind, attend: Attend) -> jax.Array:
        b, t, _ = x_btd.shape
        h_btd = self.norm(x_btd)
        q_btnh = self.query(h_btd).reshape(b, t, self.config.heads, self.config.head_dim)
        k_btkh = self.key(h_btd).reshape(b, t, self.config.kv_heads, self.config.head_dim)
        v_btkh = self.value(h_btd).reshape(b, t, self.config.kv_heads, self.config.head_dim)
        if self.config.qk_norm:
            q_btnh, k_btkh = self.query_norm(q_btnh), self.key_norm(k_btkh)
        turn = rotation(positions_bt, kind.frequencies_h)
        q_btnh, k_btkh = rotate(q_btnh, turn), rotate(k_btkh, turn)
        spec = attention.Spec(self.config.query_scale, self.config.attention_softcap, kind.window)
        o_btd = self.output(attend(q_btnh, k_btkh, v_btkh, spec).reshape(b, t, -1))
        return self.post_norm(o_btd) if self.config.post_norms else o_btd


class FeedForward(nnx.Module):
    """The gated feed-forward: SwiGLU, or GeGLU (Shazeer, 2020)."""

    def __init__(self, config: ModelConfig, dtype: jnp.dtype, dot_general: DotGeneral, rngs: nnx.Rngs):
        linear = _linear(dtype, dot_general, rngs)
        self.config = config
        self.norm = RMSNorm(config, config.width, dtype)
        self.gate = linear(config.width, config.hidden)
        self.up = linear(config.width, config.hidden)
        self.down = linear(config.hidden, config.width)
        if config.post_norms:
            self.post_norm = RMSNorm(config, config.width, dtype)

    def __call__(self, x_btd: jax.Array) -> jax.Array:
        h_btd = self.norm(x_btd)
        # The activation in f32: in bf16 XLA rounds after each of its operations, which is slower too.
        gate_btf = _ACTIVATIONS[self.config.activation](self.gate(h_btd).astype(jnp.float32)).astype(h_btd.dtype)
        o_btd = self.down(gate_btf * self.up(h_btd))
        return self.post_norm(o_btd) if self.config.post_norms else o_btd


class Block(nnx.Module):
    """One layer: attention, then feed-forward, each normed before and added to the residual stream."""

    def __init__(
        self,
        config: ModelConfig,
        dtype: jnp.dtype,
        *,
        rngs: nnx.Rngs,
        dot_general: DotGeneral = jax.lax.dot_general,
    ):
        self.attention = Attention(config, dtype, dot_general, rngs)
        self.feedforward = FeedForward(config, dtype, dot_general, rngs)

    def __call__(self, x_btd: jax.Array, positions_bt: jax.Array, kind: LayerKind, attend: Attend) -> jax.Array:
        x_btd = x_btd + self.attention(x_btd, positions_bt, kind, attend)
        return x_btd + self.feedforward(x_btd)


def init(config: ModelConfig, key: jax.Array, dtype: jnp.dtype = jnp.float32) -> Params:
    """Random parameters: matrices from N(0, 0.02²), biases at zero, norms that scale by one. One compiled call,
    whatever the depth."""
    return _init(config, key, jnp.dtype(dtype))


@partial(jax.jit, static_argnums=(0, 2))
def _init(config: ModelConfig, key: jax.Array, dtype: jnp.dtype) -> Params:
    embed_key, head_key, blocks_key = jax.random.split(key, 3)

    def block_params(layer_key: jax.Array) -> Params:
        return nnx.to_pure_dict(nnx.state(Block(config, dtype, rngs=nnx.Rngs(layer_key))))

    params = {
        "embed": _INITIAL(embed_key, (config.vocab, config.width), dtype),
        "blocks": jax.vmap(block_params)(jax.random.split(blocks_key, config.layers)),
        "norm": _initial_scale(config, config.width, dtype),
    }
    if not config.tied:
        params["head"] = _INITIAL(head_key, (config.width, config.vocab), dtype)
    return params


def abstract_params(config: ModelConfig, dtype: jnp.dtype = jnp.float32) -> Params:
    """The parameters' shapes and dtypes (`jax.ShapeDtypeStruct` leaves), with no memory behind them."""
    return jax.eval_shape(lambda: init(config, jax.random.key(0), dtype))


def parameters(config: ModelConfig) -> int:
    """How many parameters a model has."""
    return sum(leaf.size for leaf in jax.tree.leaves(abstract_params(config)))


@lru_cache
def block_graphdef(config: ModelConfig, dot_general: DotGeneral) -> nnx.GraphDef[Block]:
    """The static half of a block, the same for every layer and dtype."""
    dtype = jnp.dtype(jnp.float32)
    return nnx.graphdef(nnx.eval_shape(lambda: Block(config, dtype, rngs=nnx.Rngs(0), dot_general=dot_general)))


def layer_kind(config: ModelConfig, index: int) -> LayerKind:
    """What one layer does that others may do otherwise."""
    window = config.window(index)
    return LayerKind(inverse_frequencies(config, local=window is not None), window)


def apply_block(
    config: ModelConfig,
    kind: LayerKind,
    layer_params: Params,
    x_btd: jax.Array,
    positions_bt: jax.Array,
    attend: Attend,
    dot_general: DotGeneral = jax.lax.dot_general,
) -> jax.Array:
    """One layer over x_btd, with that layer's own kind (`layer_kind`) and parameters (`layer`). `positions_bt` int32
    set the rotations."""
    return nnx.merge(block_graphdef(config, dot_general), layer_params)(x_btd, positions_bt, kind, attend)


def layer(params: Params, index: int | jax.Array) -> Params:
    """The parameters of one layer: a slice of every stacked leaf."""
    return jax.tree.map(lambda leaf: leaf[index], params["blocks"])


def embed(config: ModelConfig, params: Params, ids_bt: jax.Array) -> jax.Array:
    """x_btd: the embedding of each token id."""
    x_btd = params["embed"][ids_bt]
    return x_btd * jnp.asarray(config.width**0.5, x_btd.dtype) if config.embed_scaled else x_btd


def final_norm(config: ModelConfig, params: Params, x: jax.Array) -> jax.Array:
    """The norm between the last block and the head, over the last axis of x [..., D]."""
    return _rms_norm(config, x, params["norm"])


def logits(config: ModelConfig, params: Params, x: jax.Array) -> jax.Array:
    """f32 logits [..., V] of x [..., D], which `final_norm` has normed."""
    if "head" in params:
        raw = jnp.matmul(x, params["head"], preferred_element_type=jnp.float32)
    else:
        raw = by_rows(x, params["embed"], preferred_element_type=jnp.float32)
    return attention.softcapped(raw, config.logit_softcap)


def hidden_states(
    config: ModelConfig,
    params: Params,
    ids_bt: jax.Array,
    positions_bt: jax.Array,
    segments_bt: jax.Array,
    rows: NamedSharding | None = None,
    remat: Remat = "minimal",
) -> jax.Array:
    """x_btd after the last block and *before* `final_norm`, over packed rows.

    All three inputs are int32 [B, T]. Positions restart with each segment; segment 0 is padding. For the backward pass
    the products with parameters are kept; all else, attention included, is computed anew: it costs memory traffic, not
    time. With full `remat` these are too, and a layer's input alone is kept. `rows` says how activations [B, ...] lie
    over a mesh.
    """
    packed_causal = attention.backend(config.attention).packed_causal
    kinds = _kinds_to_scan(config)

    def attend(q_btnh: jax.Array, k_btkh: jax.Array, v_btkh: jax.Array, spec: attention.Spec) -> jax.Array:
        return packed_causal(q_btnh, k_btkh, v_btkh, spec, segments_bt)

    def step(x_btd: jax.Array, scanned: tuple[Params, LayerKind | None]) -> tuple[jax.Array, None]:
        layer_params, kind = scanned
        kind = layer_kind(config, 0) if kind is None else kind
        out_btd = apply_block(config, kind, layer_params, x_btd, positions_bt, attend, by_columns)
        return placed(out_btd, rows), None

    body = jax.checkpoint(step, policy=_KEPT[remat], prevent_cse=False)
    x_btd, _ = jax.lax.scan(body, placed(embed(config, params, ids_bt), rows), (params["blocks"], kinds))
    return x_btd


def placed(x: jax.Array, sharding: NamedSharding | None) -> jax.Array:
    """The same array, laid out so in the compiled program; None leaves that to the compiler."""
    return x if sharding is None else jax.lax.with_sharding_constraint(x, sharding)


def _kinds_to_scan(config: ModelConfig) -> LayerKind | None:
    """Every layer's kind, stacked; None where all are alike, so that it is a constant of the program."""
    if len(set(config.windows)) <= 1:
        return None
    kinds = [layer_kind(config, index) for index in range(config.layers)]
    everything = np.iinfo(np.int32).max
    windows = [everything if kind.window is None else kind.window for kind in kinds]
    return LayerKind(np.stack([kind.frequencies_h for kind in kinds]), np.asarray(windows, np.int32))


def _linear(dtype: jnp.dtype, dot_general: DotGeneral, rngs: nnx.Rngs) -> Callable[..., nnx.Linear]:
    return partial(
        nnx.Linear, use_bias=False, param_dtype=dtype, kernel_init=_INITIAL, dot_general=dot_general, rngs=rngs
    )


def _initial_scale(config: ModelConfig, size: int, dtype: jnp.dtype) -> jax.Array:
    return jnp.zeros(size, dtype) if config.norm_plus_one else jnp.ones(size, dtype)


def _rms_norm(config: ModelConfig, x: jax.Array, scale_d: jax.Array) -> jax.Array:
    x_f32 = x.astype(jnp.float32)
    normed = x_f32 * jax.lax.rsqrt(jnp.mean(jnp.square(x_f32), axis=-1, keepdims=True) + config.norm_eps)
    if config.norm_plus_one:
        return (normed * (1 + scale_d.astype(jnp.float32))).astype(x.dtype)
    return normed.astype(x.dtype) * scale_d
