"""A smaller model made of some of a parent's layers: for exploratory rows, before anything of that size was trained.

Weights are taken over, not changed, as DistilBERT begins with every other layer of its parent (Sanh et al. 2019,
arXiv:1910.01108). Until it is trained such a model is far worse than its parent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from rest_jax.core.errors import UserError
from rest_jax.models import checkpoint
from rest_jax.models.config import ModelConfig
from rest_jax.models.decoder import Params
from rest_jax.models.tensors import Stored

SHRUNK = "shrunk"
"""The key of agent.json that says which layers of which model these are. Improve hands it on."""


def evenly(layers: int, keep: int) -> tuple[int, ...]:
    """`keep` of that many layers, from 0, evenly spaced: the first and, of two or more, the last among them. UserError
    when there are not so many, or none is to be kept."""
    if not 1 <= keep <= layers:
        raise UserError(f"--keep {keep}: the model has {layers} layers; keep 1 to {layers} of them")
    return (0,) if keep == 1 else tuple(place * (layers - 1) // (keep - 1) for place in range(keep))


def shrink(parent: Path, layers: Sequence[int], folder: Path, *, name: str) -> str:
    """Write the model of these layers of `parent`, in their order, to `folder`, in f32 and Hugging Face's layout.

    Embedding, head, last norm and tokenizer are the parent's; agent.json is too, where it has one, and says which
    layers of which model (`name`) these are. Returns that sentence. Raises UserError for layers that the parent has not
    or that do not rise, and as `checkpoint.on_disk` and `checkpoint.save` do.
    """
    model = checkpoint.on_disk(parent)
    if not layers or list(layers) != sorted(set(layers)) or not 0 <= layers[0] <= layers[-1] < model.config.layers:
        raise UserError(
            f"--layers {','.join(map(str, layers))}: name layers of {name}, 0 to {model.config.layers - 1}, rising"
        )
    said = (
        f"layers {', '.join(map(str, layers))} of the {model.config.layers} of {name} (weights "
        f"{model.weights_digest[:8]})"
    )
    before = (model.agent or {}).get(SHRUNK)
    said = said if before is None else f"{said}, itself {before}"
    params = jax.tree.map(lambda leaf: leaf.whole(np.float32), some_layers(model.params, layers))
    about = {**(model.agent or {}), SHRUNK: said}
    checkpoint.save(config_with(model.config, layers), params, folder, tokenizer_from=parent, agent=about)
    return said


def some_layers(params: Params, layers: Sequence[int]) -> Params:
    """Of parameters on disk those of these layers: a stacked leaf's tensors are chosen among, others stay."""

    def chosen(leaf: Stored) -> Stored:
        if not leaf.stacked:
            return leaf
        parts = tuple(leaf.parts[layer] for layer in layers)
        return replace(leaf, shape=(len(parts), *leaf.shape[1:]), parts=parts)

    return jax.tree.map(chosen, params)


def config_with(config: ModelConfig, layers: Sequence[int]) -> ModelConfig:
    """What the model of these layers computes: each keeps its own window."""
    windows = tuple(config.windows[layer] for layer in layers) if config.windows else ()
    return replace(config, layers=len(layers), windows=windows)


def shrunk(agent: Mapping[str, object] | None) -> str:
    """What an agent.json says of layers taken from another model; nothing where it does not."""
    return str((agent or {}).get(SHRUNK, ""))
