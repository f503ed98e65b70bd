"""The cache rows on the device, a pool of them for every width, and the copies between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from rest_jax.config.settings import EngineSettings
from rest_jax.core.errors import UserError
from rest_jax.models.config import ModelConfig
from rest_jax.sampling import state, steps
from rest_jax.sampling.lanes import Parked, Slot
from rest_jax.sampling.layout import Layout
from rest_jax.sampling.state import Cache, Rows

_PINNED = "pinned_host"


@dataclass
class Pool:
    """The rows of one width."""

    cache: Cache
    rows: Rows


class Pools:
    """Pools by width, each allocated when first used after it was freed."""

    def __init__(self, config: ModelConfig, settings: EngineSettings, dtype: Any, layout: Layout):
        """Raises UserError when rows are to be parked in memory that the backend has not."""
        self._config, self._rows, self._dtype = config, settings.rows, dtype
        self._pools: dict[int, Pool] = {}
        self._layout = layout
        device = layout.device
        self._memory = device.default_memory().kind
        self._parked_memory = _pinned_host(device) if settings.park == "host" and settings.parkable else self._memory

    def __getitem__(self, width: int) -> Pool:
        if width not in self._pools:
            rows = jax.device_put(state.idle_rows(self._rows), self._layout.whole)
            self._pools[width] = Pool(state.zeros(self._shapes(self._rows, width)), rows)
        return self._pools[width]

    def free(self) -> None:
        """Drops all rows."""
        self._pools.clear()

    def wait(self) -> None:
        """Until the device has done all that was asked of it."""
        jax.block_until_ready([(pool.cache, pool.rows) for pool in self._pools.values()])

    def place(self, slot: Slot, values: Rows) -> None:
        """Sets the state of one row (as `state.row` and `state.idle_row` make them)."""
        pool = self[slot.width]
        pool.rows = steps.place(pool.rows, np.int32(slot.row), values)

    def copy(self, source: Slot | Parked, target: Slot | Parked) -> Cache:
        """Copies what a row holds, or once held; returns the copy, buffers [1, ...] of the source's width."""
        if isinstance(source, Parked):
            content = self._moved(source.content, self._memory)
        else:
            content = steps.read_row(self[source.width].cache, np.int32(source.row))
        if isinstance(target, Parked):
            content = target.content = self._moved(content, self._parked_memory)
        else:
            self._write(target, content)
        return content

    def blank(self, slot: Slot) -> None:
        """Zeros in place of what a row holds."""
        self._write(slot, state.zeros(self._shapes(1, slot.width)))

    def _shapes(self, rows: int, width: int) -> Cache:
        return state.cache_shapes(self._config, rows, width, self._dtype, self._layout.cache)

    def _write(self, slot: Slot, content: Cache) -> None:
        pool = self[slot.width]
        pool.cache = steps.write_row(pool.cache, np.int32(slot.row), content)

    def _moved(self, content: Cache, memory: str) -> Cache:
        if self._parked_memory == self._memory:
            return content
        return jax.device_put(content, jax.tree.map(lambda leaf: leaf.sharding.with_memory_kind(memory), content))


def _pinned_host(device: Any) -> str:
    """The kind of host memory that the device reads and writes by itself."""
    kinds = sorted(memory.kind for memory in device.addressable_memories())
    if _PINNED not in kinds:
        raise UserError(
            f"engine.park is host, but {device.platform} devices have no pinned host memory (only {', '.join(kinds)}); "
            f"set engine.park to device"
        )
    return _PINNED
