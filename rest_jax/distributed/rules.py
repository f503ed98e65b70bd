"""Logical axis rules: which mesh axis divides which axis of the parameters (as T5X and MaxText name it)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from rest_jax.core.errors import UserError


@dataclass(frozen=True)
class AxisRules:
    """For each logical axis the mesh axis that divides it; None leaves it whole on every device."""

    layers: str | None = None
    vocab: str | None = "tensor"
    width: str | None = "fsdp"
    norm: str | None = None
    head_dim: str | None = None
    heads: str | None = "tensor"
    kv_heads: str | None = "tensor"
    hidden: str | None = "tensor"
    rank: str | None = None


def parameter_shardings(
    mesh: Mesh | AbstractMesh, axes: Mapping[str, Any], sizes: Mapping[str, int], rules: AxisRules | None = None
) -> dict[str, Any]:
    """A `NamedSharding` for each parameter.

    `axes` is the parameters' tree with tuples of logical axis names, `sizes` how many units each axis has (see
    `models.axes`). UserError when a mesh axis does not divide what it should, with the sizes that would.
    """
    mesh_axis = asdict(rules or AxisRules())
    _refuse_uneven(mesh, mesh_axis, sizes)
    return jax.tree.map(
        lambda names: NamedSharding(mesh, PartitionSpec(*(mesh_axis[name] for name in names))),
        dict(axes),
        is_leaf=lambda node: isinstance(node, tuple),
    )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of [B, ...] batches: rows divided over data and fsdp, so B must be a multiple of their product."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def _refuse_uneven(mesh: Mesh | AbstractMesh, mesh_axis: Mapping[str, str | None], sizes: Mapping[str, int]) -> None:
    for axis, ways in mesh.shape.items():
        divided = {name: size for name, size in sizes.items() if mesh_axis[name] == axis}
        uneven = [f"{size} {name}" for name, size in divided.items() if size % ways]
        if uneven:
            common = math.gcd(*divided.values())
            valid = ", ".join(str(n) for n in range(1, common + 1) if common % n == 0)
            raise UserError(
                f"mesh: {axis} = {ways} does not divide {', '.join(uneven)} of this model; set {axis} to one of {valid}"
            )
