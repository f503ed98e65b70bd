"""How a sampler's arrays lie over the devices of its mesh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from rest_jax.distributed.rules import AxisRules, parameter_shardings
from rest_jax.models.axes import axis_sizes, parameter_axes
from rest_jax.models.config import ModelConfig


@dataclass(frozen=True)
class Layout:
    """A mesh, and what divides what over it. Weights are divided by head, hidden unit and token of the vocabulary,
    keys and values by head; all else is whole on every device."""

    mesh: Mesh | AbstractMesh
    rules: AxisRules

    @property
    def abstract(self) -> Layout:
        """The same over whichever devices: programs made for it are traced once for all samplers of this shape."""
        mesh = self.mesh
        return Layout(mesh.abstract_mesh if isinstance(mesh, Mesh) else mesh, self.rules)

    @property
    def device(self) -> Any:
        """The first of its devices."""
        assert isinstance(self.mesh, Mesh)
        return self.mesh.devices.flat[0]

    @property
    def cache(self) -> NamedSharding:
        """Of buffers [B, K, ...]."""
        return NamedSharding(self.mesh, PartitionSpec(None, self.rules.kv_heads))

    @property
    def shared(self) -> NamedSharding:
        """Of buffers [K, ...]."""
        return NamedSharding(self.mesh, PartitionSpec(self.rules.kv_heads))

    @property
    def logits(self) -> NamedSharding:
        """Of [B, V], as each device computes its part."""
        return NamedSharding(self.mesh, PartitionSpec(None, self.rules.vocab))

    @property
    def whole(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def cache_ways(self) -> int:
        """Devices that one row's keys and values are divided over."""
        return self.mesh.shape[self.rules.kv_heads] if self.rules.kv_heads else 1

    def parameters(self, config: ModelConfig) -> dict[str, Any]:
        """A sharding for each parameter. UserError, with the sizes that would do, where the mesh divides heads, hidden
        units or vocabulary unevenly."""
        return parameter_shardings(self.mesh, parameter_axes(config), axis_sizes(config), self.rules)


def layout(config: ModelConfig, mesh: Mesh) -> Layout:
    """How a model is sampled from on a mesh. Key/value heads that do not divide over its tensor axis, as the few of
    grouped-query attention, are kept whole on each of its devices (Shoeybi et al., 2019, divide the heads; Pope et al.,
    2022, say what it costs when there are fewer heads than devices)."""
    whole = config.kv_heads % mesh.shape["tensor"]
    return Layout(mesh, AxisRules(kv_heads=None) if whole else AxisRules())
