"""Which dtype computes where; the table stands in docs/design.md."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def compute_dtype(name: str) -> jnp.dtype:
    """The dtype of weights, activations and KV cache while sampling. `auto` is f32 on CPU and bf16 elsewhere."""
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return jnp.dtype(name)
