"""Transcripts cut into chunks of compiled shapes, and chunks put together into batches. Plain Python, no jax."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from rest_jax.sampling.lanes import Mark, Slot

_SMALLEST_BUCKET = 16


@dataclass(frozen=True)
class Chunk:
    """Tokens to run through the model for one row: `ids` (without padding) from position `start`, in a compiled shape
    of `size` tokens; start + size never exceeds the row's width."""

    start: int
    ids: tuple[int, ...]
    size: int


def pieces(ids: Sequence[int], start: int, end: int, width: int, chunk: int) -> Iterator[Chunk]:
    """Positions start … end - 1 of a transcript as chunks of at most `chunk` tokens. A last chunk that would stick out
    of the row begins earlier, and computes a few cached tokens anew."""
    for first in range(start, end, chunk):
        last = min(first + chunk, end)
        size = next(bucket for bucket in buckets(chunk) if bucket >= last - first)
        begin = min(first, width - size)
        yield Chunk(begin, tuple(ids[begin:last]), size)


def marks(ids: tuple[int, ...], chunk: int, before: int = 0) -> tuple[Mark, ...]:
    """A mark for each chunk of a transcript that starts from scratch, the last of which may not be whole: with it
    chunks are looked up and not compared, which for hundreds of rows and a thousand equal tokens would take longer than
    decoding does. `before`: where the shared beginning before the ids lies."""
    parts = (ids[start : start + chunk] for start in range(0, len(ids), chunk))
    hashes = accumulate(parts, lambda before, part: hash((before, part)), initial=before)
    ends = (*range(0, len(ids), chunk), len(ids))
    return tuple(map(Mark, ends, hashes))[1:]


def batches(pending: Sequence[tuple[Slot, Chunk]], rows: int) -> Iterator[list[tuple[Slot, Chunk]]]:
    """Pending chunks in batches of at most `rows`: a batch has one width and one size, and one chunk of any slot; the
    chunks of a slot keep their order."""
    waiting = list(pending)
    while waiting:
        width, size = waiting[0][0].width, waiting[0][1].size
        batch: list[tuple[Slot, Chunk]] = []
        later: list[tuple[Slot, Chunk]] = []
        passed: set[Slot] = set()
        for slot, chunk in waiting:
            fits = len(batch) < rows and (slot.width, chunk.size) == (width, size) and slot not in passed
            (batch if fits else later).append((slot, chunk))
            passed.add(slot)
        yield batch
        waiting = later


def buckets(chunk: int) -> tuple[int, ...]:
    """The compiled sizes of a chunk: powers of two from 16, up to `chunk` itself."""
    sizes = (_SMALLEST_BUCKET << power for power in range(chunk.bit_length()))
    return (*(size for size in sizes if size < chunk), chunk)
