"""What a sampler runs on its devices, as a list: all of it can be compiled before the first reply is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.stages import Lowered

from rest_jax.config.settings import EngineSettings
from rest_jax.distributed.cpu import cores
from rest_jax.models.config import ModelConfig
from rest_jax.sampling import state, steps
from rest_jax.sampling.chunks import buckets
from rest_jax.sampling.layout import Layout
from rest_jax.sampling.weights import View

Report = Callable[[int, int, str], None]
"""(done, total, name of the one just done)"""


@dataclass(frozen=True)
class Program:
    """One program. A call with the same shapes finds it once it was lowered and compiled, and traces nothing."""

    name: str
    lower: Callable[[], Lowered]


def _silent(done: int, total: int, name: str) -> None:
    """A report that nobody reads."""


def compile_all(programs: Sequence[Program], report: Report = _silent) -> None:
    """Compiles side by side, on as many threads as there are processors, and reports each program that is ready.

    Where one fails, or the user interrupts, those that have not begun never do.
    """
    with ThreadPoolExecutor(cores()) as threads:
        compiling = {threads.submit(lambda one=one: one.lower().compile()): one.name for one in programs}
        try:
            for done, future in enumerate(as_completed(compiling), 1):
                future.result()
                report(done, len(programs), compiling[future])
        finally:
            threads.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Shapes:
    """What decides a sampler's programs."""

    config: ModelConfig
    settings: EngineSettings
    widths: tuple[int, ...]
    layout: Layout
    dtype: Any
    weights: View
    """As shapes."""
    table: jax.ShapeDtypeStruct
    """Of all stop sets."""

    def programs(self, *, sharing: bool) -> Iterator[Program]:
        """Those of sampling with shared beginnings, or without. Compiled when first used are scoring, and what looks
        for the weights that are no numbers."""
        shared = self._shared if sharing else None
        for width in self.widths:
            yield from self._of_rows(width, shared)
            for narrower in self.widths[: self.widths.index(width) + 1]:
                content = self._cache(1, narrower)
                yield Program(
                    f"write {narrower} tokens into a row of {width}",
                    lambda width=width, content=content: steps.write_row.lower(
                        self._cache(self.settings.rows, width), np.int32(0), content
                    ),
                )
        rows = jax.tree.map(lambda leaf: _shape(leaf, self.layout.whole), state.idle_rows(self.settings.rows))
        yield Program("place a row", lambda: steps.place.lower(rows, np.int32(0), state.idle_row(0)))
        if shared is not None:
            yield from self._of_beginnings(shared)

    def _of_rows(self, width: int, shared: state.Shared | None) -> Iterator[Program]:
        settings = self.settings
        cache = self._cache(settings.rows, width)
        rows = jax.tree.map(lambda leaf: _shape(leaf, self.layout.whole), state.idle_rows(settings.rows))
        traced = self.layout.abstract
        yield Program(f"allocate {settings.rows} rows of {width}", lambda: state.allocation(cache).lower())
        yield Program(f"allocate a blank row of {width}", lambda: state.allocation(self._cache(1, width)).lower())
        yield Program(f"read a row of {width}", lambda: steps.read_row.lower(cache, np.int32(0)))
        yield Program(
            f"decode {settings.block} tokens in {settings.rows} rows of {width}",
            lambda: steps.decode_block.lower(
                self.config, traced, self.weights, cache, rows, self.table, settings.block, shared
            ),
        )
        for size in buckets(settings.chunk):
            yield self._extend(cache, settings.extend_rows, size, f"in rows of {width}", shared)

    def _of_beginnings(self, shared: state.Shared) -> Iterator[Program]:
        content = self._cache(1, self.settings.room)
        yield Program("allocate shared beginnings", lambda: state.allocation(shared).lower())
        yield Program("allocate a beginning", lambda: state.allocation(content).lower())
        zero = np.int32(0)
        yield Program("share a beginning", lambda: steps.share.lower(self.config, shared, content, zero, zero))
        for size in buckets(self.settings.chunk):
            yield self._extend(content, 1, size, "of a beginning", None)

    def _extend(self, cache: state.Cache, rows: int, size: int, where: str, shared: state.Shared | None) -> Program:
        row_e, ids_et = np.zeros(rows, np.int32), np.zeros((rows, size), np.int32)
        beginnings = None if shared is None else steps.Beginnings(shared, row_e, row_e)
        return Program(
            f"extend {rows} by {size} tokens {where}",
            lambda: steps.extend.lower(
                self.config, self.layout.abstract, self.weights, cache, row_e, row_e, ids_et, beginnings
            ),
        )

    def _cache(self, rows: int, width: int) -> state.Cache:
        return state.cache_shapes(self.config, rows, width, self.dtype, self.layout.cache)

    @property
    def _shared(self) -> state.Shared:
        return state.shared_shapes(self.config, self.settings.room, self.dtype, self.layout.shared)


def _shape(leaf: Any, sharding: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
