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
    peak = settings.learning_rate
    return optax.warmup_cosine_decay_schedule(
        init_value=peak / (settings.warmup + 1),
        peak_value=peak,
        warmup_steps=settings.warmup,
        decay_steps=settings.steps,
        end_value=peak / 10,
    )


def optimizer(settings: ImproveSettings) -> optax.GradientTransformation:
    """AdamW's direction (b1 0.9, b2 0.95, eps 1e-8) after clipping the global gradient norm; only matrices decay.

    What it returns is to be multiplied by minus the learning rate. Settings that differ in nothing that matters here
    share one object, and so one compiled step.
    """
    return _adamw(settings.weight_decay, settings.clip)


def matrices(params: Params) -> Any:
    """For each parameter whether it is a matrix; a block's leaves carry one axis more, for the layers."""
    rest = {name: leaf for name, leaf in params.items() if name != "blocks"}
    return {
        **jax.tree.map(lambda leaf: leaf.ndim >= 2, rest),
        "blocks": jax.tree.map(lambda leaf: leaf.ndim >= 3, params["blocks"]),
    }


@lru_cache
def _adamw(weight_decay: float, clip: float) -> optax.GradientTransformation:
    return optax.chain(
        optax.clip_by_global_norm(clip),
        optax.scale_by_adam(b1=0.9, b2=0.95, eps=1e-8),
        optax.add_decayed_weights(weight_decay, mask=matrices),
    )
