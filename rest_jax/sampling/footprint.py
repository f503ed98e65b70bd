"""What a sampler will hold, told from sizes alone: before anything of it is allocated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rest_jax.config.settings import EngineSettings
from rest_jax.models.config import ModelConfig
from rest_jax.sampling import weights
from rest_jax.sampling.layout import Layout
from rest_jax.sampling.state import cache_bytes_per_token

_SCORES = 10
"""Arrays of the scores' size that attention holds at once, of several layers as the compiler overlaps them. (XLA on a
CPU, SmolLM2-135M in f32, 4 rows of 2,048 extended by 128 tokens: 744 MiB, half of it the rows that are read.)"""
_HIDDEN = 3
"""Of the feed-forward's inner width: gate, up, and their product."""
_LOGITS = 6
"""Of the logits' size in a draw with filters: logits, tempered, within top-k, within top-p, ranks, probabilities."""


@dataclass(frozen=True)
class Footprint:
    """Bytes that one sampler holds on each of its devices."""

    token: int
    """Keys and values of one token of one row."""
    weights: int
    caches: int
    """The rows of every cache width, once all are in use, and the shared beginnings."""
    parked: int
    """The most of parked rows, in the memory that `engine.park` names: a row is parked only while others fill the pool
    that it was in, and may be of the widest."""
    working: int
    """About what a prefill or a decode step takes for itself while it runs."""


def footprint(config: ModelConfig, settings: EngineSettings, dtype: Any, layout: Layout) -> Footprint:
    """The bytes of an `Engine` with these; `dtype` is that of weights, computation and cache."""
    token = cache_bytes_per_token(config, dtype) // layout.cache_ways
    widths = settings.widths_within(config.max_positions)
    return Footprint(
        token=token,
        weights=weights.nbytes(weights.shapes(config, dtype, layout)),
        caches=token * (settings.rows * sum(widths) + settings.room),
        parked=token * settings.parkable * widths[-1],
        # Rows under way are those that an extend reads, in all layers, and one that is copied or a beginning.
        working=_working(config, settings, widths[-1], layout)
        + token * (settings.extend_rows * widths[-1] + max(widths[-1], settings.room)),
    )


def _working(config: ModelConfig, settings: EngineSettings, width: int, layout: Layout) -> int:
    """Of the program that takes most, f32 throughout, but for rows that are read."""
    ways = layout.mesh.shape["tensor"]
    seen = width + settings.room

    def layer(rows: int, tokens: int) -> int:
        scores = _SCORES * config.heads // ways * seen
        return rows * tokens * (scores + _HIDDEN * config.hidden // ways + 4 * config.width)

    extend = layer(settings.extend_rows, settings.chunk)
    decode = layer(settings.rows, 1) + _LOGITS * settings.rows * config.vocab
    score = layer(1, settings.chunk) + _LOGITS // 2 * settings.chunk * config.vocab
    return 4 * max(extend, decode, score)
