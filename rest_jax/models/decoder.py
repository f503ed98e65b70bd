"""The decoder: one Flax NNX block, stacked parameters around it, and pure functions over a plain pytree.

Parameters are a nested dict of arrays, so that samplers, optimizers and checkpoints see nothing but a pytree:

    embed   [V, D]
    blocks  every leaf stacked over layers, [L, ...]
      attention     norm/scale [L, D]  query/kernel [L, D, N*H]  key/kernel, value/kernel [L, D, K*H]
                    output/kernel [L, N*H, D]
      feedforward   norm/scale [L, D]  gate/kernel, up/kernel [L, D, F]  down/kernel [L, F, D]
    norm    [D]
    head    [D, V], when the config is untied

Kernels lie as [in, out]. The compute dtype is the parameters'; norms, rotations, softmax and logits are f32. There is
no dropout.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from rest_jax.models import attention
from rest_jax.models.config import ModelConfig
from rest_jax.models.rope import rotate

Params = dict[str, Any]
Attend = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""(q_btnh, k_btkh, v_btkh) -> o_btnh, given by the caller: packed causal in training, the cache in decoding."""

_INITIAL = nnx.initializers.normal(0.02)


class RMSNorm(nnx.Module):
    """Scales to unit root mean square, in f32 (Zhang and Sennrich, 2019)."""

    def __init__(self, config: ModelConfig, dtype: jnp.dtype):
        self.eps = config.norm_eps
        self.scale = nnx.Param(jnp.ones(config.width, dtype))

    def __call__(self, x_btd: jax.Array) -> jax.Array:
        return _rms_norm(x_btd, self.scale[...], self.eps)


class Attention(nnx.Module):
    """Grouped-query attention with rotary positions; who is attended to is the caller's affair."""

    def __init__(self, config: ModelConfig, dtype: jnp.dtype, rngs: nnx.Rngs):
        linear = partial(nnx.Linear, use_bias=False, param_dtype=dtype, kernel_init=_INITIAL, rngs=rngs)
        self.config = config
        self.norm = RMSNorm(config, dtype)
        self.query = linear(config.width, config.heads * config.head_dim)
        self.key = linear(config.width, config.kv_heads * config.head_dim)
        self.value = linear(config.width, config.kv_heads * config.head_dim)
        self.output = linear(config.heads * config.head_dim, config.width)

    def __call__(self, x_btd: jax.Array, positions_bt: jax.Array, attend: Attend) -> jax.Array:
        b, t, _ = x_btd.shape
        h_btd = self.norm(x_btd)
        q_btnh = self.query(h_btd).reshape(b, t, self.config.heads, self.config.head_dim)
        k_btkh = self.key(h_btd).reshape(b, t, self.config.kv_heads, self.config.head_dim)
        v_btkh = self.value(h_btd).reshape(b, t, self.config.kv_heads, self.config.head_dim)
        q_btnh, k_btkh = rotate(q_btnh, positions_bt, self.config), rotate(k_btkh, positions_bt, self.config)
        return self.output(attend(q_btnh, k_btkh, v_btkh).reshape(b, t, -1))


class FeedForward(nnx.Module):
    """SwiGLU (Shazeer, 2020)."""

    def __init__(self, config: ModelConfig, dtype: jnp.dtype, rngs: nnx.Rngs):
        linear = partial(nnx.Linear, use_bias=False, param_dtype=dtype, kernel_init=_INITIAL, rngs=rngs)
        self.norm = RMSNorm(config, dtype)
        self.gate = linear(config.width, config.hidden)
        self.up = linear(config.width, config.hidden)
        self.down = linear(config.hidden, config.width)

    def __call__(self, x_btd: jax.Array) -> jax.Array:
        h_btd = self.norm(x_btd)
        return self.down(jax.nn.silu(self.gate(h_btd)) * self.up(h_btd))


class Block(nnx.Module):
    """One layer: attention, then feed-forward, each normed before and added to the residual stream."""

    def __init__(self, config: ModelConfig, dtype: jnp.dtype, *, rngs: nnx.Rngs):
        self.attention = Attention(config, dtype, rngs)
        self.feedforward = FeedForward(config, dtype, rngs)

    def __call__(self, x_btd: jax.Array, positions_bt: jax.Array, attend: Attend) -> jax.Array:
        x_btd = x_btd + self.attention(x_btd, positions_bt, attend)
        return x_btd + self.feedforward(x_btd)


def init(config: ModelConfig, key: jax.Array, dtype: jnp.dtype = jnp.float32) -> Params:
    """Random parameters: matrices from N(0, 0.02²), norms at one. One compiled call, whatever the depth."""
    return _init(config, key, jnp.dtype(dtype))


@partial(jax.jit, static_argnums=(0, 2))
def _init(config: ModelConfig, key: jax.Array, dtype: jnp.dtype) -> Params:
    embed_key, head_key, blocks_key = jax.random.split(key, 3)

    def block_params(layer_key: jax.Array) -> Params:
        return nnx.to_pure_dict(nnx.state(Block(config, dtype, rngs=nnx.Rngs(layer_key))))

    params = {
        "embed": _INITIAL(embed_key, (config.vocab, config.width), dtype),
        "blocks": jax.vmap(block_params)(jax.random.split(blocks_key, config.layers)),
        "norm": jnp.ones(config.width, dtype),
    }
    if not config.tied:
        params["head"] = _INITIAL(head_key, (config.width, config.vocab), dtype)
    return params


def abstract_params(config: ModelConfig, dtype: jnp.dtype = jnp.float32) -> Params:
    """The parameters' shapes and dtypes (`jax.ShapeDtypeStruct` leaves), with no memory behind them."""
    return jax.eval_shape(lambda: init(config, jax.random.key(0), dtype))


@lru_cache
def block_graphdef(config: ModelConfig) -> nnx.GraphDef[Block]:
    """The static half of a block, the same for every layer and dtype."""
    return nnx.graphdef(nnx.eval_shape(lambda: Block(config, jnp.dtype(jnp.float32), rngs=nnx.Rngs(0))))


def apply_block(
    config: ModelConfig, layer_params: Params, x_btd: jax.Array, positions_bt: jax.Array, attend: Attend
) -> jax.Array:
    """One layer over x_btd, with that layer's own parameters (`layer`). `positions_bt` int32 set the rotations."""
    return nnx.merge(block_graphdef(config), layer_params)(x_btd, positions_bt, attend)


def layer(params: Params, index: int | jax.Array) -> Params:
    """The parameters of one layer: a slice of every stacked leaf."""
    return jax.tree.map(lambda leaf: leaf[index], params["blocks"])


def embed(config: ModelConfig, params: Params, ids_bt: jax.Array) -> jax.Array:
    """x_btd: the embedding of each token id."""
    return params["embed"][ids_bt]


def final_norm(config: ModelConfig, params: Params, x: jax.Array) -> jax.Array:
    """The norm between the last block and the head, over the last axis of x [..., D]."""
    return _rms_norm(x, params["norm"], config.norm_eps)


def head_dv(config: ModelConfig, params: Params) -> jax.Array:
    """The output matrix [D, V]; a transposed view of the embedding when tied."""
    return params["embed"].T if config.tied else params["head"]


def logits(config: ModelConfig, params: Params, x: jax.Array) -> jax.Array:
    """f32 logits [..., V] of x [..., D], which `final_norm` has normed."""
    return jnp.matmul(x, head_dv(config, params), preferred_element_type=jnp.float32)


def hidden_states(
    config: ModelConfig,
    params: Params,
    ids_bt: jax.Array,
    positions_bt: jax.Array,
    segments_bt: jax.Array,
) -> jax.Array:
    """x_btd after the last block and *before* `final_norm`, over packed rows.

    All three inputs are int32 [B, T]. Positions restart with each segment; segment 0 is padding. For the backward pass
    the products with parameters are kept; all else, attention included, is computed anew: it costs memory traffic, not
    time.
    """
    packed_causal = attention.backend(config.attention).packed_causal

    def attend(q_btnh: jax.Array, k_btkh: jax.Array, v_btkh: jax.Array) -> jax.Array:
        return packed_causal(q_btnh, k_btkh, v_btkh, segments_bt)

    def step(x_btd: jax.Array, layer_params: Params) -> tuple[jax.Array, None]:
        return apply_block(config, layer_params, x_btd, positions_bt, attend), None

    kept = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    body = jax.checkpoint(step, policy=kept, prevent_cse=False)
    x_btd, _ = jax.lax.scan(body, embed(config, params, ids_bt), params["blocks"])
    return x_btd


def _rms_norm(x: jax.Array, scale_d: jax.Array, eps: float) -> jax.Array:
    x_f32 = x.astype(jnp.float32)
    normed = x_f32 * jax.lax.rsqrt(jnp.mean(jnp.square(x_f32), axis=-1, keepdims=True) + eps)
    return normed.astype(x.dtype) * scale_d
