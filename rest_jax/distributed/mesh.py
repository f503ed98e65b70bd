"""The mesh: three axes that are always there, so that one device and a pod run the same program."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh

from rest_jax.core.errors import UserError

AXES = ("data", "fsdp", "tensor")
"""data: rows of a batch; fsdp: rows of a batch and parameters; tensor: heads, hidden units and vocabulary."""


def make_mesh(data: int = 1, fsdp: int = 1, tensor: int = 1, *, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of the first data x fsdp x tensor of `devices` (None: those of all processes, as many of each). UserError
    when there are fewer, or processes get unlike parts."""
    shape = (data, fsdp, tensor)
    wanted = math.prod(shape)
    devices = _of_all(wanted) if devices is None else devices
    if min(shape) < 1 or wanted > len(devices):
        raise UserError(
            f"mesh: data {data} x fsdp {fsdp} x tensor {tensor} needs {wanted} devices, {len(devices)} are here; "
            f"choose axes of at least 1 with a product of at most {len(devices)}"
        )
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices[:wanted])


def whole(array: Any) -> Any:
    """An array as this process can read it, whichever processes hold its parts; all of them have to call this."""
    if array.is_fully_addressable:
        return array
    if array.is_fully_replicated:
        return array.addressable_data(0)
    return multihost_utils.process_allgather(array, tiled=True)


def _of_all(wanted: int) -> Sequence[Any]:
    """All devices, first those of each process that `wanted` of them would take."""
    devices, processes = jax.devices(), jax.process_count()
    if wanted % processes:
        raise UserError(
            f"mesh: {wanted} devices do not divide over {processes} processes; set data, fsdp and tensor so that their "
            f"product is a multiple of {processes}"
        )
    each = wanted // processes
    parts = [[device for device in devices if device.process_index == index] for index in range(processes)]
    return [device for part in parts for device in part[:each]] + [device for part in parts for device in part[each:]]
