"""What counts as the same trajectory, and the whole benchmark on a few of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.invariance import ALTERS_NOTHING, CHANGES, Change, compared, main, measure
from rest_jax.core.effects import Candidate, Finish


def replies(*turns: tuple[tuple[int, ...], tuple[float, ...]]) -> list[Candidate]:
    return [Candidate(ids, logprobs, "", Finish.LENGTH) for ids, logprobs in turns]


BEFORE = {0: replies(((1, 2), (-0.5, -1.0)), ((3,), (-2.0,))), 1: replies(((4, 5), (-0.25, -0.5)), ((6,), (-1.0,)))}


def test_the_same_is_the_same():
    assert compared(BEFORE, BEFORE) == {
        "trajectories": 2,
        "same_bits": 1.0,
        "same_tokens": 1.0,
        "logprob_difference": 0.0,
    }


def test_another_bit_is_no_other_token():
    after = {**BEFORE, 1: [BEFORE[1][0], replace(BEFORE[1][1], logprobs=(-1.125,))]}
    told = compared(BEFORE, after)
    assert (told["same_bits"], told["same_tokens"], told["logprob_difference"]) == (0.5, 1.0, 0.125)


def test_nothing_is_compared_after_the_first_other_token():
    after = {**BEFORE, 0: replies(((1, 9), (-0.75, -9.0)), ((3,), (-7.0,)))}
    told = compared(BEFORE, after)
    assert (told["same_bits"], told["same_tokens"], told["logprob_difference"]) == (0.5, 0.5, 0.25)


@pytest.mark.slow
def test_every_change_has_its_row(tmp_path: Path):
    out = tmp_path / "out.json"
    assert main(["--json", str(out), "--trajectories", "20"]) == 0
    rows = {row["change"]: row for row in json.loads(out.read_text(encoding="utf-8"))["rows"]}
    assert rows.keys() == {change.name for change in CHANGES}
    for change in CHANGES:
        row = rows[change.name]
        assert row["trajectories"] == 20
        if change.alters == ALTERS_NOTHING:
            assert (row["same_bits"], row["same_tokens"], row["logprob_difference"]) == (1, 1, 0)
    assert 0 < rows["tensor 1 → 8"]["logprob_difference"] < 1e-3 < rows["float32 → bfloat16"]["logprob_difference"]


@pytest.mark.slow
def test_a_change_that_needs_more_devices_is_noted():
    rows, (note,) = measure(1, [Change("tensor 1 → 64", ALTERS_NOTHING, {"tensor": 64})])
    assert rows == []
    assert "needs 64 devices, 8 are here" in note
