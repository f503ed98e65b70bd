"""What a command will hold in memory, said and checked before any of it is taken."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from rest_jax.config.improve import LoraSettings
from rest_jax.config.limits import checked
from rest_jax.config.settings import EngineSettings, ImproveSettings
from rest_jax.core.errors import UserError
from rest_jax.distributed.cpu import available_memory
from rest_jax.models import checkpoint
from rest_jax.models.config import ModelConfig
from rest_jax.models.decoder import abstract_params
from rest_jax.sampling.exhaustion import fewer_rows
from rest_jax.sampling.footprint import Footprint, footprint
from rest_jax.sampling.layout import layout
from rest_jax.sampling.replicas import meshes
from rest_jax.training import layout as training_layout
from rest_jax.training.checkpoint import beside_steps
from rest_jax.training.lora import abstract_trained

TRAINED_BYTES = 20
"""Of one parameter in training, all in f32: as loaded, as trained, its gradient, Adam's two moments."""
FROZEN_BYTES = 12
"""Of one parameter beside adapters in training: as loaded, with the adapter in it, and the gradient of that."""
KEPT_BYTES = 12
"""On the host, of one trained parameter while a checkpoint is written: it and its two moments."""
LEFT_ALONE = 2**29
"""Bytes of a host's memory that are not counted on: for the compiler, the tool adapter and the machine's other work."""


@dataclass(frozen=True)
class Available:
    """Bytes that are free; None where nobody says."""

    device: int | None
    """On each device."""
    host: int | None
    shared: bool
    """A CPU: its devices have the host's memory, and no other."""


@dataclass(frozen=True)
class Memory:
    """Bytes that sampling, and an Improve where there is one, will hold. Activations of the Improve come on top."""

    each: Footprint
    """Of one sampler, on each of its devices."""
    devices: int
    """How many devices hold that much."""
    loading: int
    """On the host while weights are read: four tensors, in f32."""
    training: int
    """What an Improve takes on each of its devices while it runs; caches and parked rows are freed then. 0 where
    nothing is trained."""
    training_devices: int = 1
    """How many devices hold that much."""
    writing: int = 0
    """What an Improve takes on the host while a checkpoint is written."""

    def line(self, engine: EngineSettings) -> str:
        """For a person."""
        on = "" if self.devices == 1 else f" on each of {self.devices} devices"
        return (
            f"memory{on}: weights {_size(self.each.weights)}, and beside them caches {_size(self.each.caches)} "
            f"({engine.rows} rows of each width, {self.each.token / 1000:.3g} KB a token){self._parked(engine)} and "
            f"{_size(self.each.working)} to work in{self._trained()}"
        )

    def _trained(self) -> str:
        """The part of the line about an Improve, when there is any."""
        on = "" if self.training_devices == 1 else f" on each of {self.training_devices} devices"
        if not self.training:
            return ""
        written = f", and {_size(self.writing)} of the host for a checkpoint" if self.writing else ""
        return f", or in an Improve {_size(self.training)}{on} and its activations{written}"

    def _parked(self, engine: EngineSettings) -> str:
        """The part of the line about parked rows, when there can be any."""
        if not engine.parkable:
            return ""
        where = "pinned in the host" if engine.park == "host" else "on the device"
        return f", parked rows up to {_size(self.each.parked)} ({engine.parkable}, {where})"

    def refuse_more_than(self, available: Available, engine: EngineSettings) -> None:
        """Raises UserError, naming the setting to turn, when this is more than there is."""
        needs = self._on_a_cpu(engine) if available.shared else self._on_devices(engine)
        for where, needed, mend in needs:
            free = available.host if where == "host" else available.device
            if free is not None and needed > free:
                raise UserError(
                    f"{self.line(engine)}: {_size(needed)} in all, of {_size(max(free, 0))} that the {where} has left; "
                    f"{mend}"
                )

    def _on_devices(self, engine: EngineSettings) -> Iterator[tuple[str, int, str]]:
        """Where how much is needed at once, and what would take less: each adds to the one before."""
        yield "device", self.each.weights + self.training, "choose a smaller model, or a device with more memory"
        sampling = self.each.weights + self.each.caches + self.each.working
        yield "device", sampling, fewer_rows(engine)
        if engine.park == "device":
            mend = f"lower engine.resident ({engine.resident}), or set engine.park to host"
            yield "device", sampling + self.each.parked, mend
        yield "host", max(self.loading, self.writing), "choose a smaller model, or a machine with more memory"
        if engine.park == "host":
            mend = f"lower engine.resident ({engine.resident}), or set engine.park to device"
            yield "host", self.loading + self.devices * self.each.parked, mend

    def _on_a_cpu(self, engine: EngineSettings) -> Iterator[tuple[str, int, str]]:
        """The same where all of it is the host's memory."""
        fewer = f"lower engine.replicas ({engine.replicas}), or " if engine.replicas > 1 else ""
        weights = self.devices * self.each.weights
        mend = f"{fewer}choose a smaller model, or a machine with more memory"
        training = self.training_devices * self.training + self.writing
        yield "host", weights + max(training, self.loading), mend
        sampling = weights + self.devices * (self.each.caches + self.each.working)
        yield "host", sampling, f"{fewer}{fewer_rows(engine)}"
        yield "host", sampling + self.devices * self.each.parked, f"{fewer}lower engine.resident ({engine.resident})"


def memory(folder: Path, engine: EngineSettings, dtype: Any, improves: Sequence[ImproveSettings] = ()) -> Memory:
    """What sampling with the model of this folder will hold, and training it in the largest of the `improves`.
    UserError as of `checkpoint.config_of`, and for settings that will not do."""
    config, samplers = checkpoint.config_of(folder), meshes(checked(engine, "engine"))
    sizes = jax.tree.map(lambda leaf: leaf.size, abstract_params(config))
    layer = jax.tree.map(lambda size: size // config.layers, sizes["blocks"])
    trained = (
        (_training(config, improve), improve.mesh.devices // jax.process_count(), _writing(config, improve))
        for improve in improves
    )
    training, training_devices, writing = max(trained, default=(0, 1, 0))
    return Memory(
        each=footprint(config, engine, dtype, layout(config, samplers[0])),
        devices=sum(mesh.size for mesh in samplers),
        loading=4 * 4 * max(jax.tree.leaves({**sizes, "blocks": layer})),
        training=training,
        training_devices=training_devices,
        writing=writing,
    )


def _training(config: ModelConfig, improve: ImproveSettings) -> int:
    """Bytes of an Improve on each of its devices. UserError when there are too few, or they do not divide the model."""
    mesh = training_layout.mesh_of(improve.mesh)

    def here(lora: LoraSettings | None) -> int:
        places = training_layout.layout(config, mesh, lora)
        shapes = abstract_trained(config, lora)
        return sum(jax.tree.leaves(jax.tree.map(lambda one, at: math.prod(at.shard_shape(one.shape)), shapes, places)))

    return TRAINED_BYTES * here(improve.lora) + (0 if improve.lora is None else FROZEN_BYTES * here(None))


def _writing(config: ModelConfig, improve: ImproveSettings) -> int:
    """Bytes of a checkpoint of an Improve, where it is copied to the host before it is written."""
    trained = sum(leaf.size for leaf in jax.tree.leaves(abstract_trained(config, improve.lora)))
    return KEPT_BYTES * trained if beside_steps() else 0


def available() -> Available:
    """What is free now, but for what a host is left."""
    free = available_memory()
    host = None if free is None else free - LEFT_ALONE
    device = jax.local_devices()[0]
    stats = device.memory_stats() or {}
    limit = stats.get("bytes_limit")
    return Available(
        None if limit is None else limit - stats.get("bytes_in_use", 0), host, shared=device.platform == "cpu"
    )


def refuse_too_large(held: Memory, engine: EngineSettings) -> None:
    """Raises UserError, naming the setting to turn, when this machine will not hold it. To be called before the first
    of it is allocated."""
    held.refuse_more_than(available(), engine)


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
