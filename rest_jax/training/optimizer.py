"""AdamW with linear warm-up, cosine decay and global clipping; made anew for each Improve step."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import optax

from rest_jax.config.settings import ImproveSettings
from rest_jax.models.decoder import Params


def learning_rate(settings: ImproveSettings) -> optax.Schedule:
    """Optimizer step (from 0) -> learning rate: linear warm-up to the peak, cosine decay to a tenth of it.

    The first step already learns, at peak / (warmup + 1).
    """
    return _schedule(settings.learning_rate, settings.warmup, settings.steps)


def optimizer(settings: ImproveSettings) -> optax.GradientTransformation:
    """AdamW (b1 0.9, b2 0.95, eps 1e-8) after clipping the global gradient norm; only matrices decay.

    Settings that differ in nothing that matters here share one object, and so one compiled step.
    """
    return _adamw(learning_rate(settings), settings.weight_decay, settings.clip)


def matrices(params: Params) -> Any:
    """For each parameter whether it is a matrix; a block's leaves carry one axis more, for the layers."""
    rest = {name: leaf for name, leaf in params.items() if name != "blocks"}
    return {
        **jax.tree.map(lambda leaf: leaf.ndim >= 2, rest),
        "blocks": jax.tree.map(lambda leaf: leaf.ndim >= 3, params["blocks"]),
    }


@lru_cache
def _schedule(peak: float, warmup: int, steps: int) -> optax.Schedule:
    return optax.warmup_cosine_decay_schedule(
        init_value=peak / (warmup + 1), peak_value=peak, warmup_steps=warmup, decay_steps=steps, end_value=peak / 10
    )


@lru_cache
def _adamw(schedule: optax.Schedule, weight_decay: float, clip: float) -> optax.GradientTransformation:
    return optax.chain(
        optax.clip_by_global_norm(clip),
        optax.adamw(schedule, b1=0.9, b2=0.95, eps=1e-8, weight_decay=weight_decay, mask=matrices),
    )
