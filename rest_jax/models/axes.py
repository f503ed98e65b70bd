"""The logical axes of the decoder's parameters: what each dimension is, so that a mesh may divide it."""

from __future__ import annotations

from typing import Any

from rest_jax.models.config import ModelConfig


def parameter_axes(config: ModelConfig) -> dict[str, Any]:
    """The parameters' tree with, for each leaf, a tuple that names its axes."""
    norm = {"scale": ("layers", "norm")}
    axes: dict[str, Any] = {
        "embed": ("vocab", "width"),
        "blocks": {
            "attention": {
                "norm": norm,
                "query": {"kernel": ("layers", "width", "heads")},
                "key": {"kernel": ("layers", "width", "kv_heads")},
                "value": {"kernel": ("layers", "width", "kv_heads")},
                "output": {"kernel": ("layers", "heads", "width")},
            },
            "feedforward": {
                "norm": norm,
                "gate": {"kernel": ("layers", "width", "hidden")},
                "up": {"kernel": ("layers", "width", "hidden")},
                "down": {"kernel": ("layers", "hidden", "width")},
            },
        },
        "norm": ("norm",),
    }
    return axes if config.tied else {**axes, "head": ("width", "vocab")}


def axis_sizes(config: ModelConfig) -> dict[str, int]:
    """How many units of each axis there are to divide: whole heads, never parts of one."""
    return {
        "layers": config.layers,
        "vocab": config.vocab,
        "width": config.width,
        "norm": config.width,
        "heads": config.heads,
        "kv_heads": config.kv_heads,
        "hidden": config.hidden,
    }
