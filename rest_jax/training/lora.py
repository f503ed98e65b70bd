"""LoRA (Hu et al., 2021): each target kernel gains the product of two thin matrices, and those alone are trained.

    W' = W + alpha / rank * A B        A [L, in, rank] f32, drawn from N(0, 1 / in); B [L, rank, out] f32, zero at first

The loss is computed with W' itself, and W' is what is exported: a sampler sees plain weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rest_jax.config.improve import LoraSettings
from rest_jax.models.axes import parameter_axes
from rest_jax.models.config import ModelConfig
from rest_jax.models.decoder import Params, abstract_params


def adapter_axes(config: ModelConfig, lora: LoraSettings) -> dict[str, Any]:
    """The adapters' tree, which is the parameters' with `{"a", "b"}` in each target's place and nothing else; for each
    leaf the names of its axes."""

    def thin(axes: dict[str, Any]) -> dict[str, Any]:
        layers, into, out = axes["kernel"]
        return {"a": (layers, into, "rank"), "b": (layers, "rank", out)}

    return _at_targets(thin, parameter_axes(config), lora)


def initial_adapters(config: ModelConfig, lora: LoraSettings, key: jax.Array) -> Params:
    """Adapters that change nothing yet."""
    keys = iter(jax.random.split(key, len(lora.targets)))

    def thin(leaves: dict[str, jax.ShapeDtypeStruct]) -> Params:
        layers, into, out = leaves["kernel"].shape
        a_lir = jax.random.normal(next(keys), (layers, into, lora.rank)) * into**-0.5
        return {"a": a_lir, "b": jnp.zeros((layers, lora.rank, out))}

    return _at_targets(thin, abstract_params(config), lora)


def abstract_trained(config: ModelConfig, lora: LoraSettings | None) -> Params:
    """Shapes and dtypes of what is trained (`jax.ShapeDtypeStruct` leaves): the adapters, or all parameters without
    `lora`."""
    if lora is None:
        return abstract_params(config)
    return jax.eval_shape(lambda: initial_adapters(config, lora, jax.random.key(0)))


def merged(frozen: Params, trained: Params, lora: LoraSettings | None) -> Params:
    """The parameters: those that are frozen, with the adapters in them; without `lora` all are trained."""
    if lora is None:
        return trained

    blocks = {part: dict(sublayer) for part, sublayer in frozen["blocks"].items()}
    for part, sublayer in trained["blocks"].items():
        for name, thin in sublayer.items():
            delta_lio = lora.alpha / lora.rank * (thin["a"] @ thin["b"])
            blocks[part][name] = {**blocks[part][name], "kernel": blocks[part][name]["kernel"] + delta_lio}
    return {**frozen, "blocks": blocks}


def _at_targets(
    thin: Callable[[dict[str, Any]], dict[str, Any]], tree: dict[str, Any], lora: LoraSettings
) -> dict[str, Any]:
    """The tree of what `thin` makes of each target's leaves."""
    blocks = {
        part: {name: thin(leaves) for name, leaves in sublayer.items() if name in lora.targets}
        for part, sublayer in tree["blocks"].items()
    }
    return {"blocks": {part: sublayer for part, sublayer in blocks.items() if sublayer}}
