"""The digest that names a set of weights in every summary row."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np


def weights_digest(params: Mapping[str, Any]) -> str:
    """sha256 (hex) over every leaf's path, dtype, shape and bytes, leaves sorted by path; one leaf on host at a time.

    The same weights in another dtype have another digest: they compute other numbers.
    """
    leaves = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in _leaves(params)}
    hasher = hashlib.sha256()
    for path in sorted(leaves):
        host = np.ascontiguousarray(leaves[path])
        hasher.update(f"{path} {host.dtype.name} {host.shape}\n".encode())
        hasher.update(host.reshape(-1).view(np.uint8).data)
    return hasher.hexdigest()


def _leaves(params: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_leaves_with_path(params)
