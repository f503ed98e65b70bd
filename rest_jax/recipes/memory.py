"""What a run will hold on a device, said before it begins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jax

from rest_jax.config.settings import EngineSettings
from rest_jax.core.errors import UserError
from rest_jax.models import checkpoint
from rest_jax.models.config import ModelConfig
from rest_jax.models.decoder import abstract_params
from rest_jax.sampling.exhaustion import fewer_rows
from rest_jax.sampling.replicas import Replicas

TRAINED_BYTES = 20
"""Of one parameter in training, all in f32: as loaded, as trained, its gradient, Adam's two moments."""


@dataclass(frozen=True)
class Memory:
    """Bytes on a device, as shapes and dtypes foretell them. Activations come on top."""

    token: int
    """Keys and values of one token of one row."""
    caches: int
    """The rows of every cache width, once all are in use."""
    parked: int
    """Rows that wait while others decode, in the memory that `engine.park` names."""
    weights: int
    """As sampled from."""
    training: int
    """What an Improve takes on the first device while it runs; caches and parked rows are freed then. 0 where nothing
    is trained."""
    devices: int
    """How many hold caches and weights; the devices of a CPU share its memory."""

    def line(self, engine: EngineSettings) -> str:
        """For a person."""
        on = "" if self.devices == 1 else f" on each of {self.devices} devices"
        return (
            f"memory{on}: weights {_size(self.weights)}, and beside them caches {_size(self.caches)} ({engine.rows} "
            f"rows of each width, {self.token / 1000:.3g} KB a token){self._parked(engine)}{self._trained()}"
        )

    def _trained(self) -> str:
        """The part of the line about an Improve, when there is any."""
        return f", or in an Improve {_size(self.training)} and its activations" if self.training else ""

    def _parked(self, engine: EngineSettings) -> str:
        """The part of the line about parked rows, when there can be any."""
        if not engine.parkable:
            return ""
        where = "pinned in the host" if engine.park == "host" else "on the device"
        return f" and parked rows up to {_size(self.parked)} ({engine.parkable}, {where})"

    def refuse_more_than(self, available: int, engine: EngineSettings) -> None:
        """Raises UserError, naming the setting to turn, when a device of `available` bytes will not hold this."""
        parked = self.parked if engine.park == "device" else 0
        sampling, training = self.caches + parked + self.weights, self.weights + self.training
        if max(sampling, training) <= available:
            return
        if training > available:
            mend = "choose a smaller model, or a device with more memory"
        elif sampling - parked <= available:
            mend = f"lower engine.resident ({engine.resident}), or set engine.park to host"
        else:
            mend = fewer_rows(engine)
        needed = max(sampling, training)
        raise UserError(f"{self.line(engine)}: {_size(needed)} of {_size(available)} that the device has; {mend}")


def memory(policy: Replicas, *, training: int = 0) -> Memory:
    """What sampling with these engines will hold, and beside it so many bytes in training."""
    one = policy.engines[0]
    return Memory(
        token=one.pool_bytes(1) // one.rows,
        caches=one.cache_bytes,
        parked=one.parked_bytes,
        weights=one.weight_bytes,
        training=training,
        devices=len(policy.engines) * one.devices,
    )


def training_bytes(folder: Path) -> int:
    """What training the model of this folder will hold."""
    config = ModelConfig.from_hf(checkpoint.read_json(folder, "config.json"))
    return TRAINED_BYTES * sum(leaf.size for leaf in jax.tree.leaves(abstract_params(config)))


def refuse_too_large(held: Memory, engine: EngineSettings) -> None:
    """Raises UserError when the device will not hold this, before it is allocated. A CPU does not say what it has."""
    stats = jax.devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        held.refuse_more_than(stats["bytes_limit"], engine)


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
