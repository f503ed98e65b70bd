"""Which of a model's weights are no numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp


def not_finite(params: Mapping[str, Any]) -> tuple[str, ...]:
    """The paths of the leaves that hold a NaN or an infinity, such as `layers/3/attention/query/kernel`."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return tuple(
        jax.tree_util.keystr(path, simple=True, separator="/") for path, leaf in leaves if not bool(_all_finite(leaf))
    )


@jax.jit
def _all_finite(leaf: jax.Array) -> jax.Array:
    """Whether an array holds no NaN and no infinity: a bool []."""
    return jnp.isfinite(leaf).all()
