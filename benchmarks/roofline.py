"""The least time that a decode step can take: its bytes and operations over two measured ceilings of the device.

step ≥ max(parameters / bandwidth, 2 · batch · parameter count / compute) + batch · context · KV bytes / bandwidth
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from rest_jax.models.config import ModelConfig
from rest_jax.models.decoder import abstract_params
from rest_jax.sampling.state import cache_bytes_per_token

REPEATS = 10


@dataclass(frozen=True)
class Ceilings:
    """What the device did at best in plain work of the same kind."""

    bytes_per_s: float
    """Of a copy, read and written bytes counted."""
    flops_per_s: float
    """Of a square matrix product."""

    def decode_tok_s(self, config: ModelConfig, dtype: Any, batch: int, context: float) -> float:
        """Tokens per second that no decoder of this model exceeds. `context`: cached tokens of a row, on average."""
        leaves = jax.tree.leaves(abstract_params(config))
        # An untied input embedding is looked up row by row.
        read = sum(math.prod(leaf.shape) for leaf in leaves) - (0 if config.tied else config.vocab * config.width)
        weights_s = max(read * jnp.dtype(dtype).itemsize / self.bytes_per_s, 2 * batch * read / self.flops_per_s)
        cache_s = batch * context * cache_bytes_per_token(config, dtype) / self.bytes_per_s
        return batch / (weights_s + cache_s)


def ceilings(dtype: Any) -> Ceilings:
    """Measure them on the default device."""
    on_cpu = jax.default_backend() == "cpu"
    size, side = (2**28, 2048) if on_cpu else (2**32, 8192)
    copied = jnp.zeros(size // 4, jnp.float32)
    copy_s = _fastest(jax.jit(lambda x: x + 1, donate_argnums=0), copied)
    # Random values: a matrix product of zeros draws less power and is faster than any real one.
    factor = jax.random.normal(jax.random.key(0), (side, side), dtype) / math.sqrt(side)
    product_s = _fastest(jax.jit(lambda x: x @ factor), jax.random.normal(jax.random.key(1), (side, side), dtype))
    return Ceilings(2 * size / copy_s, 2 * side**3 / product_s)


def _fastest(step: Callable[[jax.Array], jax.Array], x: jax.Array) -> float:
    """The least seconds of a step, each fed with the one before."""
    taken = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        x = step(x).block_until_ready()
        taken.append(time.perf_counter() - began)
    return min(taken[1:])  # the first one compiled
