"""Rotary positions (Su et al., 2021) in Hugging Face's half-split layout, with Llama 3.1's stretched wavelengths."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rest_jax.models.config import Llama3Rope, ModelConfig


def inverse_frequencies(config: ModelConfig, *, local: bool = False) -> np.ndarray:
    """Radians per position of each pair of channels: [H/2] f32. `local` is for layers with a window."""
    if local and config.local_rope_theta is not None:
        return _plain(config.local_rope_theta, config.head_dim)
    frequencies = _plain(config.rope_theta, config.head_dim)
    return _stretched(frequencies, config.rope_scaling) if config.rope_scaling else frequencies


class Rotation(NamedTuple):
    """The turn of each channel pair of each token."""

    cos_bt1h: jax.Array
    """f32 [B, T, 1, H/2]."""
    sin_bt1h: jax.Array


def rotation(positions_bt: jax.Array, frequencies_h: np.ndarray | jax.Array) -> Rotation:
    """The turns of int32 positions by position x frequency (f32 [H/2]), computed here and once: left to itself, XLA's
    CPU backend computes them anew for each head of queries and keys."""
    angles_bt1h = (positions_bt[..., None].astype(jnp.float32) * frequencies_h)[:, :, None]
    return jax.lax.optimization_barrier(Rotation(jnp.cos(angles_bt1h), jnp.sin(angles_bt1h)))


def rotate(x_btnh: jax.Array, by: Rotation) -> jax.Array:
    """Turns each head's channel pairs (i, i + H/2); computed in f32, returned in x's dtype."""
    left, right = jnp.split(x_btnh.astype(jnp.float32), 2, axis=-1)
    turned = (left * by.cos_bt1h - right * by.sin_bt1h, right * by.cos_bt1h + left * by.sin_bt1h)
    return jnp.concatenate(turned, axis=-1).astype(x_btnh.dtype)


def _plain(theta: float, head_dim: int) -> np.ndarray:
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    return np.float32(1) / np.float32(theta) ** exponents


def _stretched(frequencies: np.ndarray, scaling: Llama3Rope) -> np.ndarray:
    """Long waves are slowed by `factor`, short ones kept, those between blended (Llama 3.1's reference code)."""
    turns = scaling.original_max_position_embeddings * frequencies / np.float32(2 * np.pi)
    span = scaling.high_freq_factor - scaling.low_freq_factor
    kept = np.clip((turns - scaling.low_freq_factor) / span, 0, 1)
    return ((1 - kept) * frequencies / scaling.factor + kept * frequencies).astype(np.float32)
