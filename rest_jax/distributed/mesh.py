"""The mesh: three axes that are always there, so that one device and a pod run the same program."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh

from rest_jax.core.errors import UserError

AXES = ("data", "fsdp", "tensor")
"""data: rows of a batch; fsdp: rows of a batch and parameters; tensor: heads, hidden units and vocabulary."""


def make_mesh(data: int = 1, fsdp: int = 1, tensor: int = 1, *, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of the first data x fsdp x tensor of `devices` (None: all). UserError when there are fewer."""
    shape = (data, fsdp, tensor)
    wanted, devices = math.prod(shape), jax.devices() if devices is None else devices
    if min(shape) < 1 or wanted > len(devices):
        raise UserError(
            f"mesh: data {data} x fsdp {fsdp} x tensor {tensor} needs {wanted} devices, {len(devices)} are here; "
            f"choose axes of at least 1 with a product of at most {len(devices)}"
        )
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices[:wanted])
