"""Rotary positions (Su et al., 2021) in Hugging Face's half-split layout, with Llama 3.1's stretched wavelengths."""

from __future__ import annotations

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


def rotate(x_btnh: jax.Array, positions_bt: jax.Array, frequencies_h: np.ndarray | jax.Array) -> jax.Array:
    """Turns each head's channel pairs (i, i + H/2) by position x frequency (f32 [H/2]); computed in f32, returned in
    x's dtype."""
    angles_bth = positions_bt[..., None].astype(jnp.float32) * frequencies_h
    cos_bt1h, sin_bt1h = jnp.cos(angles_bth)[:, :, None], jnp.sin(angles_bth)[:, :, None]
    left, right = jnp.split(x_btnh.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([left * cos_bt1h - right * sin_bt1h, right * cos_bt1h + left * sin_bt1h], axis=-1)
    return turned.astype(x_btnh.dtype)


def _plain(theta: float, head_dim: int) -> np.ndarray:
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    return np.float32(1) / np.float32(theta) ** exponents


def _stretched(frequencies: np.ndarray, scaling: Llama3Rope) -> np.ndarray:
    """Long waves are slowed by `factor`, short ones kept, those between blended (Llama 3.1's reference code)."""
    turns = scaling.original_max_position_embeddings * frequencies / np.float32(2 * np.pi)
    span = scaling.high_freq_factor - scaling.low_freq_factor
    kept = np.clip((turns - scaling.low_freq_factor) / span, 0, 1)
    return ((1 - kept) * frequencies / scaling.factor + kept * frequencies).astype(np.float32)
