"""The least time that a decode step can take: its bytes and operations over two measured ceilings of the device.

step ≥ max(parameters / bandwidth, 2 · batch · parameter count / compute) + batch · context · KV bytes / bandwidth
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.measure import chained
from rest_jax.models.config import ModelConfig
from rest_jax.models.decoder import abstract_params
from rest_jax.sampling.state import cache_bytes_per_token

REPEATS = 9
SIZES = {"cpu": (2**28, 2048), "gpu": (2**32, 8192)}
"""Bytes of the copy, and the side of the matrix product: large enough for a device of this kind to do its best."""


@dataclass(frozen=True)
class Ceilings:
    """What the device did at best in plain work of the same kind."""

    bytes_per_s: float
    """Of a copy, read and written bytes counted."""
    flops_per_s: float
    """Of a square matrix product."""

    def floor_s(self, bytes_moved: float, operations: float) -> float:
        """The least seconds for so much work, when the two overlap fully."""
        return max(bytes_moved / self.bytes_per_s, operations / self.flops_per_s)

    def decode_tok_s(self, config: ModelConfig, dtype: Any, batch: int, context: float) -> float:
        """Tokens per second that no decoder of this model exceeds. `context`: cached tokens of a row, on average."""
        leaves = jax.tree.leaves(abstract_params(config))
        # An untied input embedding is looked up row by row.
        read = sum(math.prod(leaf.shape) for leaf in leaves) - (0 if config.tied else config.vocab * config.width)
        weights_s = self.floor_s(read * jnp.dtype(dtype).itemsize, 2 * batch * read)
        cache_s = batch * context * cache_bytes_per_token(config, dtype) / self.bytes_per_s
        return batch / (weights_s + cache_s)


def ceilings(dtype: Any, sizes: tuple[int, int] | None = None) -> Ceilings:
    """Measure them on the default device; smaller `sizes` are for trying out a benchmark."""
    size, side = sizes or SIZES["cpu" if jax.default_backend() == "cpu" else "gpu"]
    copy = jax.jit(lambda x: x + 1, donate_argnums=0)
    copy_s = chained(copy, jnp.zeros(size // 4, jnp.float32), calls=1, repeats=REPEATS).least
    # Random values: a matrix product of zeros draws less power and is faster than any real one.
    factor = jax.random.normal(jax.random.key(0), (side, side), dtype) / math.sqrt(side)
    product = jax.jit(lambda x: x @ factor)
    product_s = chained(product, jax.random.normal(jax.random.key(1), (side, side), dtype), calls=1, repeats=REPEATS)
    return Ceilings(2 * size / copy_s, 2 * side**3 / product_s.least)
