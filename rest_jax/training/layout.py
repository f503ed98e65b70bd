"""How a model's parameters lie over the devices of an Improve."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rest_jax.config.improve import LoraSettings, MeshSettings
from rest_jax.distributed.mesh import make_mesh
from rest_jax.distributed.rules import AxisRules, parameter_shardings
from rest_jax.models.axes import axis_sizes, parameter_axes
from rest_jax.models.config import ModelConfig
from rest_jax.training.lora import adapter_axes


def mesh_of(settings: MeshSettings) -> Mesh:
    """The mesh of these settings. UserError when there are too few devices."""
    return make_mesh(**asdict(settings))


def layout(config: ModelConfig, mesh: Mesh, lora: LoraSettings | None = None) -> dict[str, Any]:
    """A `NamedSharding` for each parameter, or for each of its adapters. UserError, with the sizes that would do, where
    the mesh does not divide the model."""
    axes = parameter_axes(config) if lora is None else adapter_axes(config, lora)
    return parameter_shardings(mesh, axes, axis_sizes(config))


def embedding_sharding(mesh: Mesh) -> NamedSharding:
    """Of the embedding as a step reads it: its vectors are whole. If each device looked up its part of them, every one
    would do so for all rows."""
    return NamedSharding(mesh, PartitionSpec(AxisRules().vocab))
