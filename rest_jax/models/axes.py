"""The logical axes of the decoder's parameters: what each dimension is, so that a mesh may divide it."""

from __future__ import annotations

from typing import Any

from rest_jax.models.config import ModelConfig


def parameter_axes(config: ModelConfig) -> dict[str, Any]:
    """The parameters' tree with, for each leaf, a tuple that names its axes."""
    norm, head_norm = {"scale": ("layers", "norm")}, {"scale": ("layers", "head_dim")}

    def linear(into: str, out: str, *, bias: bool = False) -> dict[str, Any]:
        return {"kernel": ("layers", into, out), **({"bias": ("layers", out)} if bias else {})}

    post_norm = {"post_norm": norm} if config.post_norms else {}
    axes: dict[str, Any] = {
        "embed": ("vocab", "width"),
        "blocks": {
            "attention": {
                "norm": norm,
                "query": linear("width", "heads", bias=config.qkv_bias),
                "key": linear("width", "kv_heads", bias=config.qkv_bias),
                "value": linear("width", "kv_heads", bias=config.qkv_bias),
                "output": linear("heads", "width"),
                **({"query_norm": head_norm, "key_norm": head_norm} if config.qk_norm else {}),
                **post_norm,
            },
            "feedforward": {
                "norm": norm,
                "gate": linear("width", "hidden"),
                "up": linear("width", "hidden"),
                "down": linear("hidden", "width"),
                **post_norm,
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
        "head_dim": config.head_dim,
        "heads": config.heads,
        "kv_heads": config.kv_heads,
        "hidden": config.hidden,
    }
