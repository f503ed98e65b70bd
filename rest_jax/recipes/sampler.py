"""The sampler of a command: the one place where a model's weights meet the devices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rest_jax.config.settings import EngineSettings, ImproveSettings
from rest_jax.core.cache import cache_folder
from rest_jax.core.events import Listener
from rest_jax.distributed.compilation import keep_compiled
from rest_jax.distributed.cpu import divide_cpu
from rest_jax.models import checkpoint
from rest_jax.models.dtypes import compute_dtype
from rest_jax.recipes.memory import Memory, memory, refuse_too_large
from rest_jax.sampling.replicas import Replicas


def room_for(folder: Path, engine: EngineSettings, *, dtype: str, improves: Sequence[ImproveSettings] = ()) -> Memory:
    """What a sampler of the model in `folder`, and the largest of the `improves` that are to come, will hold in
    memory.

    `dtype`: as `ModelSettings.dtype`. Raises UserError when the devices will not hold it, when there are fewer than are
    asked for, and where a mesh does not divide the model.
    """
    divide_cpu(max([engine.devices, *(improve.mesh.devices for improve in improves)]))
    held = memory(folder, engine, compute_dtype(dtype), improves)
    refuse_too_large(held, engine)
    return held


def open_sampler(folder: Path, engine: EngineSettings, *, dtype: str, emit: Listener) -> Replicas:
    """The engines of these settings over the model in `folder`; what they compile is kept for the next process.

    To be called once `room_for` has found room.
    """
    keep_compiled(cache_folder() / "compiled")
    return Replicas(checkpoint.on_disk(folder), engine, dtype=compute_dtype(dtype), emit=emit)
