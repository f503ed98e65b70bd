"""Packing: several short examples share a row, kept apart by segment ids, so that little compute goes to padding.

What step s trains on is a function of (examples, settings, seed, s): a resumed run needs nothing but its step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice

import jax
import jax.numpy as jnp
import numpy as np

from rest_jax.training.examples import Example

Row = tuple[int, ...]
"""Indices of the examples that share a row, in order."""
Plan = tuple[Row, ...]
"""The rows of one batch."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Batch:
    """Packed rows. Row position t holds an input token and what it should predict."""

    ids_bt: jax.Array
    """int32, 0 in padding."""
    targets_bt: jax.Array
    """int32, the token after this one in its example."""
    weights_bt: jax.Array
    """f32, the target's weight; 0 where it is not learned."""
    positions_bt: jax.Array
    """int32, restarting at 0 with each example."""
    segments_bt: jax.Array
    """int32, 1 for a row's first example, 2 for its second, …; 0 is padding."""


def fitting(examples: Sequence[Example], length: int) -> list[Example]:
    """The examples of at most `length` tokens; the others cannot be trained on and are for the caller to count."""
    return [example for example in examples if len(example.ids) <= length]


def plans(lengths: Sequence[int], *, rows: int, length: int, seed: int) -> Iterator[Plan]:
    """Endless batches of `rows` rows over examples of the given lengths (tokens, each at most `length`).

    Every epoch visits each example once, in an order shuffled by (seed, epoch), packed first-fit: an example goes to
    the first row of its epoch that has room. Rows follow one another across epochs, so no row is ever left out.
    """
    pending: list[Row] = []
    for epoch in count():
        pending += _first_fit(lengths, _shuffled(len(lengths), seed, epoch), length)
        while len(pending) >= rows:
            yield tuple(pending[:rows])
            del pending[:rows]


def schedule(examples: Sequence[Example], *, steps: int, rows: int, length: int, seed: int) -> list[Plan]:
    """The batches of a whole fit, by step: the first `steps` of `plans`. Planning costs no device time."""
    lengths = [len(example.ids) for example in examples]
    return list(islice(plans(lengths, rows=rows, length=length, seed=seed), steps))


def batch_of(examples: Sequence[Example], plan: Plan, length: int) -> Batch:
    """The batch that a plan describes: arrays [rows, length]."""
    shape = (len(plan), length)
    ids_bt, targets_bt, positions_bt, segments_bt = (np.zeros(shape, np.int32) for _ in range(4))
    weights_bt = np.zeros(shape, np.float32)
    for b, row in enumerate(plan):
        end = 0
        for segment, index in enumerate(row, start=1):
            example = examples[index]
            begin, end = end, end + len(example.ids)
            ids_bt[b, begin:end] = example.ids
            targets_bt[b, begin : end - 1] = example.ids[1:]
            weights_bt[b, begin : end - 1] = example.weights[1:]
            positions_bt[b, begin:end] = np.arange(end - begin)
            segments_bt[b, begin:end] = segment
    return Batch(*map(jnp.asarray, (ids_bt, targets_bt, weights_bt, positions_bt, segments_bt)))


def micro_batches(batch: Batch, n: int) -> Batch:
    """A batch of [B, ...] as [n, B / n, ...], to be scanned over: row b is in micro-batch b mod n, so that rows divided
    over devices stay where they are."""
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf.reshape(-1, n, *leaf.shape[1:]), 1, 0), batch)


def most_learned(examples: Sequence[Example], plans: Sequence[Plan]) -> int:
    """The largest number of learned targets that any row of these plans holds."""
    learned = [int(example.learn[1:].sum()) for example in examples]
    return max(sum(learned[index] for index in row) for plan in plans for row in plan)


def _shuffled(n: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation of range(n). numpy promises Philox's raw stream for ever, unlike `Generator.permutation`."""
    draws = np.random.Philox(np.random.SeedSequence([seed, epoch])).random_raw(n)
    return np.argsort(draws, kind="stable")


def _first_fit(lengths: Sequence[int], order: np.ndarray, length: int) -> list[Row]:
    rows: list[list[int]] = []
    room = np.empty(len(lengths), np.int64)
    for index in order.tolist():
        fits = room[: len(rows)] >= lengths[index]
        row = int(np.argmax(fits)) if fits.any() else len(rows)
        if row == len(rows):
            rows.append([])
            room[row] = length
        rows[row].append(index)
        room[row] -= lengths[index]
    return [tuple(row) for row in rows]
