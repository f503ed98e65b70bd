"""What a run will hold on its devices, said before it begins."""

from __future__ import annotations

from dataclasses import dataclass

import jax

from rest_jax.config.settings import EngineSettings
from rest_jax.models import checkpoint
from rest_jax.models.config import ModelConfig
from rest_jax.models.decoder import abstract_params
from rest_jax.models.dtypes import compute_dtype
from rest_jax.recipes.workbench import Workbench

TRAINED_BYTES = 20
"""Of one parameter in training, all in f32: as loaded, as trained, its gradient, Adam's two moments."""


@dataclass(frozen=True)
class Memory:
    """Bytes on all devices together, as shapes and dtypes foretell them. Activations come on top."""

    token: int
    """Keys and values of one token of one row."""
    caches: int
    """The rows of every cache width, once all are in use."""
    weights: int
    """As sampled from."""
    training: int
    """What an Improve adds while it runs."""

    def line(self, engine: EngineSettings) -> str:
        """For a person."""
        return (
            f"memory: caches {_size(self.caches)} ({engine.rows} rows of each width, {self.token / 1000:.3g} KB a "
            f"token), weights {_size(self.weights)}, Improve {_size(self.training)} more, and its activations"
        )


def memory(bench: Workbench, engine: EngineSettings, dtype: str) -> Memory:
    """What sampling and training with this workbench's model will hold; `dtype` is the setting `model.dtype`."""
    config = ModelConfig.from_hf(checkpoint.read_json(bench.base.folder, "config.json"))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(abstract_params(config)))
    return Memory(
        token=bench.engine.pool_bytes(1) // engine.rows,
        caches=bench.engine.cache_bytes,
        weights=parameters * compute_dtype(dtype).itemsize,
        training=parameters * TRAINED_BYTES,
    )


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
