"""Packing: every example once per epoch, nothing overlaps, and a step's batch needs only the step's number."""

from collections import Counter
from itertools import islice

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from training_world import example, random_examples

from rest_jax.training.packing import batch_of, fitting, most_learned, plans, schedule

lengths = st.lists(st.integers(2, 16), min_size=1, max_size=30)


@given(lengths, st.integers(1, 4), st.integers(0, 2**32))
def test_every_epoch_visits_every_example_once(lengths, rows, seed):
    stream = (row for plan in plans(lengths, rows=rows, length=16, seed=seed) for row in plan)
    for _ in range(3):
        visited = Counter()
        while visited.total() < len(lengths):
            row = next(stream)
            assert sum(lengths[index] for index in row) <= 16
            visited.update(row)
        assert visited == Counter(range(len(lengths)))


@given(lengths, st.integers(0, 2**32), st.integers(0, 20))
def test_a_later_step_is_the_same_however_it_is_reached(lengths, seed, step):
    examples = [example(np.arange(n), np.ones(n)) for n in lengths]
    whole = schedule(examples, steps=step + 3, rows=2, length=16, seed=seed)
    resumed = list(islice(plans(lengths, rows=2, length=16, seed=seed), step, step + 3))
    assert whole[step:] == resumed


def test_epochs_and_seeds_are_shuffled_differently():
    lengths = [16] * 20
    first, second = (list(islice(plans(lengths, rows=20, length=16, seed=seed), 2)) for seed in (0, 1))
    orders = {first[0], first[1], second[0], second[1]}
    assert len(orders) == 4


def test_the_shuffle_is_pinned():
    (plan,) = islice(plans([4] * 6, rows=6, length=4, seed=7), 1)
    assert plan == ((4,), (3,), (2,), (1,), (0,), (5,))


def test_a_batch_by_hand():
    examples = [example([5, 6, 7], [0, 1, 1]), example([8, 9], [0, 1], weight=0.5)]
    batch = batch_of(examples, ((0, 1), ()), 6)
    assert batch.ids_bt.tolist() == [[5, 6, 7, 8, 9, 0], [0] * 6]
    assert batch.targets_bt.tolist() == [[6, 7, 0, 9, 0, 0], [0] * 6]
    assert batch.weights_bt.tolist() == [[1, 1, 0, 0.5, 0, 0], [0] * 6]
    assert batch.positions_bt.tolist() == [[0, 1, 2, 0, 1, 0], [0] * 6]
    assert batch.segments_bt.tolist() == [[1, 1, 1, 2, 2, 0], [0] * 6]
    assert {str(leaf.dtype) for leaf in (batch.ids_bt, batch.targets_bt, batch.positions_bt)} == {"int32"}
    assert str(batch.weights_bt.dtype) == "float32"
    assert most_learned(examples, [((0,), (1,))]) == 2
    assert most_learned(examples, [((0, 1), ())]) == 3


def test_too_long_examples_do_not_fit():
    examples = random_examples(10, longest=20)
    assert {len(e.ids) for e in fitting(examples, 12)} == {len(e.ids) for e in examples if len(e.ids) <= 12}
