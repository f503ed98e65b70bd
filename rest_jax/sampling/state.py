"""What lives on the device between two calls: the rows' state and their key/value cache. All arrays: values never
recompile.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cache
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from rest_jax.core.effects import Sampling
from rest_jax.core.keys import KeyPath
from rest_jax.models import attention
from rest_jax.models.config import ModelConfig
from rest_jax.sampling.beginnings import NO_BEGINNING, Beginning


class Phase(IntEnum):
    """What a row is doing. Only RUNNING rows decode; a row leaves RUNNING on the device, the moment that it ends."""

    IDLE = 0
    """No candidate is being sampled: the row is free, or waits until its session goes on."""
    RUNNING = 1
    STOP = 2
    EOS = 3
    LENGTH = 4
    NONFINITE = 5


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Rows:
    """The rows of one pool; every field is an array [B], `key` [B, 2]. (`row` makes one with scalar fields.)"""

    phase: Any
    """int32: a `Phase`."""
    token: Any
    """int32: the last token of the transcript. Its key and value are not cached yet: the next step caches them."""
    length: Any
    """int32: tokens whose keys and values the row caches; with `shared` more, the position of `token`. Beyond it lies
    garbage."""
    position: Any
    """int32: which token of the candidate comes next, from 0; the last part of its random key."""
    budget: Any
    """int32: tokens that the candidate may still take."""
    stop: Any
    """int32: the row's state in the stop table (`stops.StopTable`)."""
    key: Any
    """uint32 [B, 2]: the threefry key of the candidate; a token's own key folds its position into it."""
    temperature: Any
    """float32; 0 is greedy."""
    top_k: Any
    """int32; 0 keeps all tokens."""
    top_p: Any
    """float32; 1 keeps all tokens."""
    min_p: Any
    """float32; 0 keeps all tokens."""
    start: Any
    """int32: where the row's shared beginning lies in `Shared`."""
    shared: Any
    """int32: its tokens; 0 where it has none. `length` counts from its end."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Cache:
    """Keys and values of every row, one buffer per layer, so that decoding updates them in place."""

    keys: tuple[jax.Array, ...]
    """L buffers [B, K, H, S], or with the tokens where the backend of attention wants them (`token_axes`)."""
    values: tuple[jax.Array, ...]
    """L buffers [B, K, S, H], likewise."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Shared:
    """Keys and values of beginnings that rows share, one buffer per layer; beginnings lie side by side."""

    keys: tuple[jax.Array, ...]
    """L buffers [K, H, P], likewise."""
    values: tuple[jax.Array, ...]
    """L buffers [K, P, H], likewise."""


_Buffers = TypeVar("_Buffers", Cache, Shared)


def idle_rows(count: int) -> Rows:
    """Rows in which nothing runs, on the host."""
    return Rows(
        phase=np.full(count, np.int32(Phase.IDLE)),
        token=np.zeros(count, np.int32),
        length=np.zeros(count, np.int32),
        position=np.zeros(count, np.int32),
        budget=np.zeros(count, np.int32),
        stop=np.zeros(count, np.int32),
        key=np.zeros((count, 2), np.uint32),
        temperature=np.zeros(count, np.float32),
        top_k=np.zeros(count, np.int32),
        top_p=np.ones(count, np.float32),
        min_p=np.zeros(count, np.float32),
        start=np.zeros(count, np.int32),
        shared=np.zeros(count, np.int32),
    )


def row(
    ids: tuple[int, ...],
    key: KeyPath,
    sampling: Sampling,
    budget: int,
    stop: int,
    beginning: Beginning = NO_BEGINNING,
) -> Rows:
    """What `steps.place` makes of one row: after its beginning, its cache holds all of `ids` but the last, and it is
    about to sample.

    Fields are scalars on the host, and `key` the words of its `KeyPath`, uint32 [8].
    """
    return Rows(
        phase=np.int32(Phase.RUNNING),
        token=np.int32(ids[-1]),
        length=np.int32(len(ids) - 1),
        position=np.int32(0),
        budget=np.int32(budget),
        stop=np.int32(stop),
        key=np.asarray(key.words(), np.uint32),
        temperature=np.float32(sampling.temperature),
        top_k=np.int32(sampling.top_k),
        top_p=np.float32(sampling.top_p),
        min_p=np.float32(sampling.min_p),
        start=np.int32(beginning.start),
        shared=np.int32(len(beginning.ids)),
    )


def idle_row(length: int) -> Rows:
    """What `steps.place` makes of one row: nothing runs in it, and `length` tokens are cached."""
    idle = row((0,), KeyPath(0, 0, "", 0, 0, 0, 0), Sampling(), 0, 0)
    return replace(idle, phase=np.int32(Phase.IDLE), length=np.int32(length))


def candidate_key(words: jax.Array) -> jax.Array:
    """The threefry key data uint32 [2] of a candidate: the eight words of its `KeyPath` folded in, in order."""
    key = jax.random.key(0, impl="threefry2x32")
    for index in range(words.shape[0]):
        key = jax.random.fold_in(key, words[index])
    return jax.random.key_data(key)


def shared_shapes(config: ModelConfig, tokens: int, dtype: Any, sharding: Sharding | None = None) -> Shared:
    """The buffers of so many tokens of shared beginnings, as shapes; `sharding` None: on the default device."""
    return Shared(*_shapes(config, (), tokens, dtype, sharding))


def cache_shapes(config: ModelConfig, rows: int, width: int, dtype: Any, sharding: Sharding | None = None) -> Cache:
    """The buffers of `rows` rows of `width` tokens, as shapes; `sharding` None: on the default device."""
    return Cache(*_shapes(config, (rows,), width, dtype, sharding))


def _shapes(
    config: ModelConfig, leading: tuple[int, ...], tokens: int, dtype: Any, sharding: Sharding | None
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Buffers for keys and for values as the attention backend wants them, one of each per layer."""

    def buffer(axis: int) -> jax.ShapeDtypeStruct:
        shape = [*leading, config.kv_heads, config.head_dim]
        shape.insert(len(shape) + 1 + axis, tokens)
        return jax.ShapeDtypeStruct(tuple(shape), dtype, sharding=sharding)

    k_axis, v_axis = attention.backend(config.attention).token_axes
    return (buffer(k_axis),) * config.layers, (buffer(v_axis),) * config.layers


def zeros(shapes: _Buffers) -> _Buffers:
    """These buffers. Each device makes its own part: the whole may be more than one holds."""
    return allocation(shapes)()


@cache
def allocation(shapes: Cache | Shared) -> Any:
    """The jitted function that makes these buffers."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, shapes)
    return jax.jit(
        lambda: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes), out_shardings=shardings
    )


def cache_bytes_per_token(config: ModelConfig, dtype: Any) -> int:
    """Bytes that one token of one row takes in the cache."""
    return 2 * config.layers * config.kv_heads * config.head_dim * jnp.dtype(dtype).itemsize
