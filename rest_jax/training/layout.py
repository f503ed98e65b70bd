"""How a model's parameters lie over the devices of an Improve."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rest_jax.config.improve import MeshSettings
from rest_jax.distributed.mesh import make_mesh
from rest_jax.distributed.rules import AxisRules, parameter_shardings
from rest_jax.models.axes import axis_sizes, parameter_axes
from rest_jax.models.config import ModelConfig


def mesh_of(settings: MeshSettings) -> Mesh:
    """The mesh of these settings. UserError when there are too few devices."""
    return make_mesh(**asdict(settings))


def layout(config: ModelConfig, mesh: Mesh) -> dict[str, Any]:
    """A `NamedSharding` for each parameter. UserError, with the sizes that would do, where the mesh does not divide the
    model."""
    return parameter_shardings(mesh, parameter_axes(config), axis_sizes(config))


def embedding_sharding(mesh: Mesh) -> NamedSharding:
    """Of the embedding as a step reads it: its vectors are whole. If each device looked up its part of them, every one
    would do so for all rows."""
    return NamedSharding(mesh, PartitionSpec(AxisRules().vocab))
