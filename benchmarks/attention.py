"""One token's attention over cached keys and values, by every kernel that this jax has, on the same numbers.

XLA's is the sampler's own (`models.attention.cached`). cuDNN is given lengths, never a mask. Pallas' two kernels for
Triton are called without the transposition that their own front ends make: `split` is flash decoding over parts of a
row, `paged` finds a row's keys by a table. Each has the cache in the layout that it reads fastest.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp

from rest_jax.models import attention
from rest_jax.models.config import ModelConfig

PAGE = 64
"""Tokens of a page."""
SPLITS = 16
"""Parts of a row that are attended to side by side; fewer where they would be of less than 16 tokens."""
LEAST_SPLIT = 16
Layout = Callable[[jax.Array], jax.Array]


@dataclass(frozen=True)
class Kernel:
    """How one kernel is asked, and how it wants the cache to lie."""

    attend: Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
    """(q_bnh, keys, values, length_b) -> o_bnh; `length_b` int32 counts the tokens that each row sees."""
    keys: Layout
    """From [B, K, S, H]."""
    values: Layout


def kernels(rows: int, width: int) -> Mapping[str, Kernel]:
    """All of them, for so many rows of so many cached tokens; what a device has not fails when it is traced."""
    table_bp = jnp.arange(rows * width // PAGE, dtype=jnp.int32).reshape(rows, -1)
    return {
        "xla": Kernel(_xla, lambda k_bksh: k_bksh.transpose(0, 1, 3, 2), _as_it_is),
        "cudnn": Kernel(_cudnn, _tokens_first, _tokens_first),
        "pallas split": Kernel(_split, _as_it_is, _as_it_is),
        "pallas paged": Kernel(partial(_paged, table_bp), _pages, _pages),
    }


def cached(config: ModelConfig, rows: int, width: int, dtype: Any, seed: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Random q_bnh, k_bksh and v_bksh of a model's heads."""
    shapes = ((rows, config.heads, config.head_dim), *[(rows, config.kv_heads, width, config.head_dim)] * 2)
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    q_bnh, k_bksh, v_bksh = (jax.random.normal(key, shape, dtype) for key, shape in zip(keys, shapes, strict=True))
    return q_bnh, k_bksh, v_bksh


def reference(q_bnh: jax.Array, k_bksh: jax.Array, v_bksh: jax.Array, length_b: jax.Array) -> jax.Array:
    """o_bnh f32: what every kernel should say."""
    q_bkgh = q_bnh.astype(jnp.float32).reshape(len(q_bnh), k_bksh.shape[1], -1, q_bnh.shape[-1])
    with jax.default_matmul_precision("highest"):  # else a GPU would multiply in TF32
        scores_bkgs = jnp.einsum("bkgh,bksh->bkgs", q_bkgh, k_bksh.astype(jnp.float32)) * _scale(q_bnh)
        seen_bs = jnp.arange(k_bksh.shape[2]) < length_b[:, None]
        probs_bkgs = jax.nn.softmax(jnp.where(seen_bs[:, None, None], scores_bkgs, -jnp.inf), axis=-1)
        return jnp.einsum("bkgs,bksh->bkgh", probs_bkgs, v_bksh.astype(jnp.float32)).reshape(q_bnh.shape)


def _xla(q_bnh: jax.Array, k_bkhs: jax.Array, v_bksh: jax.Array, length_b: jax.Array) -> jax.Array:
    spec = attention.Spec(_scale(q_bnh))
    return attention.cached(q_bnh[:, None], k_bkhs, v_bksh, spec, length_b[:, None] - 1)[:, 0]


def _cudnn(q_bnh: jax.Array, k_bskh: jax.Array, v_bskh: jax.Array, length_b: jax.Array) -> jax.Array:
    lengths = {"query_seq_lengths": jnp.ones_like(length_b), "key_value_seq_lengths": length_b}
    return jax.nn.dot_product_attention(q_bnh[:, None], k_bskh, v_bskh, **lengths, implementation="cudnn")[:, 0]


def _split(q_bnh: jax.Array, k_bksh: jax.Array, v_bksh: jax.Array, length_b: jax.Array) -> jax.Array:
    b, k, s, h = k_bksh.shape
    o_rgh = _pallas("decode_attention").mqa(
        q_bnh.reshape(b * k, -1, h),  # a row of one key/value head is a row of its own
        k_bksh.reshape(b * k, s, h),
        v_bksh.reshape(b * k, s, h),
        kv_seq_len=jnp.repeat(length_b, k),
        k_splits=min(SPLITS, s // LEAST_SPLIT),
        interpret=jax.default_backend() == "cpu",
    )
    return o_rgh.reshape(q_bnh.shape)


def _paged(
    table_bp: jax.Array, q_bnh: jax.Array, k_kpsh: jax.Array, v_kpsh: jax.Array, length_b: jax.Array
) -> jax.Array:
    return _pallas("paged_attention").paged_attention(
        q_bnh * jnp.asarray(_scale(q_bnh), q_bnh.dtype),
        k_kpsh,
        v_kpsh,
        table_bp,
        length_b,
        k_splits=min(SPLITS, table_bp.shape[1]),
        interpret=jax.default_backend() == "cpu",
    )


def _pallas(name: str) -> Any:
    """One of jax's kernels for Triton, which say when they are imported that they will go."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return import_module(f"jax.experimental.pallas.ops.gpu.{name}")


def _scale(q_bnh: jax.Array) -> float:
    return 1 / math.sqrt(q_bnh.shape[-1])


def _as_it_is(x_bksh: jax.Array) -> jax.Array:
    return x_bksh


def _tokens_first(x_bksh: jax.Array) -> jax.Array:
    return x_bksh.transpose(0, 2, 1, 3)


def _pages(x_bksh: jax.Array) -> jax.Array:
    """[K, pages, PAGE, H], the pages of a row side by side."""
    b, k, s, h = x_bksh.shape
    return x_bksh.transpose(1, 0, 2, 3).reshape(k, b * s // PAGE, PAGE, h)
