"""The device's side of an engine: weights, rows and shared beginnings on one mesh, and what runs on them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from rest_jax.config.settings import EngineSettings
from rest_jax.distributed.mesh import make_mesh
from rest_jax.models import attention
from rest_jax.models.checkpoint import Model
from rest_jax.models.decoder import Params
from rest_jax.models.finite import not_finite
from rest_jax.sampling import state, steps, weights
from rest_jax.sampling.beginnings import Beginning
from rest_jax.sampling.chunks import Chunk, batches, pieces
from rest_jax.sampling.lanes import Parked, Slot
from rest_jax.sampling.layout import layout
from rest_jax.sampling.pools import Pools
from rest_jax.sampling.programs import Program, Shapes
from rest_jax.sampling.stats import Stats


class Device:
    """One mesh of devices. Calls are dispatched; only `score`, `read` and timed copies wait for what they return."""

    def __init__(self, model: Model, settings: EngineSettings, dtype: Any, mesh: Mesh | None, *, time_copies: bool):
        """As `Engine` takes them; weights come with `load`."""
        self.stats = Stats()
        self.dtype = jnp.dtype(dtype or model.params["embed"].dtype)
        self._settings = settings
        self._layout = layout(model.config, mesh or make_mesh(tensor=settings.tensor, devices=jax.local_devices()))
        case = attention.Case(self._layout.device.platform, model.config.head_dim, self.dtype.name)
        self.attention = attention.choose(settings.attention, case)
        self._config = replace(model.config, attention=self.attention.name)
        self._traced = self._layout.abstract
        self._shapes = weights.shapes(self._config, self.dtype, self._layout)
        self._pools = Pools(self._config, settings, self.dtype, self._layout)
        self._time_copies = time_copies
        self._pending: list[tuple[Slot, Chunk]] = []
        self._shared: state.Shared | None = None
        self._table: tuple[np.ndarray | None, Any] = (None, None)
        """The stop table on the host and on the device."""

    @property
    def devices(self) -> int:
        return self._layout.mesh.size

    def load(self, params: Params) -> None:
        """As `weights.placed` takes them; the old ones are dropped first."""
        self.weights = {}
        self.weights = weights.placed(params, self._shapes)
        self._unsound: tuple[str, ...] | None = None
        """The parameters that are not finite; None until a reply ended that makes one ask."""

    def free(self) -> None:
        """Drops all rows."""
        self._pools.free()

    def share(self, beginnings: Sequence[Beginning]) -> None:
        """Computes keys and values of beginnings, in place of those before."""
        self._shared = None
        if not beginnings:
            return
        room = self._settings.room
        shared = state.zeros(state.shared_shapes(self._config, room, self.dtype, self._layout.shared))
        content = state.zeros(state.cache_shapes(self._config, 1, room, self.dtype, self._layout.cache))
        row_1 = np.zeros(1, np.int32)
        for beginning in beginnings:
            for chunk in pieces(beginning.ids, 0, len(beginning.ids), room, self._settings.chunk):
                start_1, ids_1t = np.asarray([chunk.start], np.int32), _padded(chunk.ids, chunk.size)[None]
                content = steps.extend(self._config, self._traced, self.weights, content, row_1, start_1, ids_1t, None)
            start, tokens = np.int32(beginning.start), np.int32(len(beginning.ids))
            shared = steps.share(self._config, shared, content, start, tokens)
            self.stats.prefilled += len(beginning.ids)
        self._shared = shared

    def place(self, slot: Slot, values: state.Rows) -> None:
        """Sets the state of one row (as `state.row` and `state.idle_row` make them)."""
        self._pools.place(slot, values)

    def wipe(self, slot: Slot) -> None:
        """Empties a row that may hold a NaN, which would outlive it: attention multiplies masked values by zero. And a
        frozen row would write its last token, which may be what makes the NaN, again and again."""
        self._pools.blank(slot)
        self._pools.place(slot, state.idle_row(0))

    def copy(self, source: Slot | Parked, target: Slot | Parked) -> None:
        """Copies what a row holds, or once held, what it is still to be extended by included."""
        if any(pending is source for pending, _ in self._pending):
            self.extend()
        if self._time_copies:
            self._pools.wait()
        began = time.perf_counter()
        content = self._pools.copy(source, target)
        if self._time_copies:
            jax.block_until_ready(content)
            self._pools.wait()
            self.stats.copy_seconds += time.perf_counter() - began
        self.stats.parks += isinstance(target, Parked)
        self.stats.unparks += isinstance(source, Parked)
        self.stats.copies += isinstance(source, Slot) and isinstance(target, Slot)
        self.stats.copied_bytes += sum(leaf.nbytes for leaf in jax.tree.leaves(content))

    def extend_later(self, slot: Slot, chunks: Sequence[Chunk]) -> None:
        """These chunks wait for others of their shape, until `extend`."""
        self._pending += [(slot, chunk) for chunk in chunks]

    def extend(self) -> None:
        """Runs the chunks that wait."""
        for batch in batches(self._pending, self._settings.extend_rows):
            self._extend(batch)
            self.stats.prefilled += sum(len(chunk.ids) for _, chunk in batch)
        self._pending.clear()

    def score(self, slot: Slot, ids: Sequence[int], first: int) -> np.ndarray:
        """f32 log-probs of the `ids` after place `first`, each after all before it, in a row that caches those before
        `first`."""
        logprobs = np.zeros(len(ids), np.float32)
        pool = self._pools[slot.width]
        for chunk in pieces(ids, first, len(ids) - 1, slot.width, self._settings.chunk):
            end = chunk.start + len(chunk.ids)
            pool.cache, found = steps.score(
                self._config,
                self._traced,
                self.weights,
                pool.cache,
                np.int32(slot.row),
                np.int32(chunk.start),
                _padded(chunk.ids, chunk.size),
                _padded(ids[chunk.start + 1 : end + 1], chunk.size),
                self._beginnings_of([slot]),
            )
            logprobs[chunk.start + 1 : end + 1] = np.asarray(found)[: len(chunk.ids)]
            self.stats.prefilled += len(chunk.ids)
        return logprobs[first + 1 :]

    def decode(self, width: int, table: np.ndarray) -> steps.Block:
        """A block of every row of this width. `table`: `StopTable.rows`."""
        if self._table[0] is not table:
            self._table = (table, jax.device_put(table, self._layout.whole))
        pool = self._pools[width]
        pool.cache, pool.rows, block = steps.decode_block(
            self._config,
            self._traced,
            self.weights,
            pool.cache,
            pool.rows,
            self._table[1],
            self._settings.block,
            self._shared,
        )
        return block

    def read(self, width: int, block: steps.Block) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Tokens, log-probs and which of them count [steps, B], and the rows' phases [B], once they are there."""
        tokens, logprobs, valid, phases = jax.device_get((*block, self._pools[width].rows.phase))
        self.stats.blocks += 1
        self.stats.row_steps += valid.size
        self.stats.decoded += int(valid.sum())
        return tokens, logprobs, valid, phases

    def unsound(self) -> tuple[str, ...]:
        """The weights that are not finite."""
        if self._unsound is None:
            self._unsound = not_finite(self.weights)
        return self._unsound

    def programs(self, widths: tuple[int, ...], table: np.ndarray, *, sharing: bool) -> list[Program]:
        """All that sampling with this stop table runs, with shared beginnings or without."""
        shape = jax.ShapeDtypeStruct(table.shape, table.dtype, sharding=self._layout.whole)
        shapes = Shapes(self._config, self._settings, widths, self._layout, self.dtype, self._shapes, shape)
        return list(shapes.programs(sharing=sharing))

    def _extend(self, batch: list[tuple[Slot, Chunk]]) -> None:
        """Runs chunks of one width and size. The batch always has the same number of rows, for the bits' sake."""
        pool = self._pools[batch[0][0].width]
        full = batch + batch[:1] * (self._settings.extend_rows - len(batch))
        row_e = np.asarray([slot.row for slot, _ in full], np.int32)
        start_e = np.asarray([chunk.start for _, chunk in full], np.int32)
        ids_et = np.stack([_padded(chunk.ids, chunk.size) for _, chunk in full])
        beginnings = self._beginnings_of([slot for slot, _ in full])
        pool.cache = steps.extend(
            self._config, self._traced, self.weights, pool.cache, row_e, start_e, ids_et, beginnings
        )

    def _beginnings_of(self, slots: Sequence[Slot]) -> steps.Beginnings | None:
        if self._shared is None:
            return None
        starts = np.asarray([slot.beginning.start for slot in slots], np.int32)
        return steps.Beginnings(self._shared, starts, np.asarray([len(slot.beginning.ids) for slot in slots], np.int32))


def _padded(ids: Sequence[int], size: int) -> np.ndarray:
    """int32 [size], zeros at the end."""
    return np.pad(np.asarray(ids, np.int32), (0, size - len(ids)))
