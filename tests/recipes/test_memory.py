"""What is said of memory, and what is refused before it is taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rest_jax.config.settings import EngineSettings
from rest_jax.core.errors import UserError
from rest_jax.models import checkpoint
from rest_jax.recipes.memory import Memory, memory, training_bytes
from rest_jax.sampling.engine import Engine
from rest_jax.sampling.replicas import Replicas

GIB = 2**30
ENGINE = EngineSettings(rows=64, resident=256, widths=(512, 1024))
HELD = Memory(token=32768, caches=3 * GIB, parked=6 * GIB, weights=2 * GIB, training=3 * GIB, devices=1)


def test_the_line_tells_parked_rows_only_when_there_can_be_any() -> None:
    assert "32.8 KB a token), or in an Improve 3.0 GiB" in HELD.line(replace(ENGINE, resident=None))
    assert "32.8 KB a token) and parked rows up to 6.0 GiB (192, on the device), or in" in HELD.line(ENGINE)
    assert "memory: weights 2.0 GiB, and" in HELD.line(ENGINE)
    assert "memory on each of 8 devices: weights" in replace(HELD, devices=8).line(ENGINE)
    assert "(192, pinned in the host)" in HELD.line(replace(ENGINE, park="host"))


@pytest.mark.parametrize(
    ("available", "mend"),
    [
        (10, r"11\.0 GiB of 10\.0 GiB .* lower engine\.resident \(256\), or set engine\.park to host"),
        (5, r"engine\.resident"),
        (4, r"a smaller model"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_setting_to_turn(available: int, mend: str) -> None:
    with pytest.raises(UserError, match=mend):
        HELD.refuse_more_than(available * GIB, ENGINE)


def test_rows_are_to_be_lowered_where_caches_alone_are_too_large() -> None:
    with pytest.raises(UserError, match=r"lower engine\.rows \(64\), engine\.resident or the widest of .* \(1024\)"):
        replace(HELD, caches=9 * GIB).refuse_more_than(10 * GIB, ENGINE)


def test_what_fits_is_not_refused() -> None:
    HELD.refuse_more_than(11 * GIB, ENGINE)
    HELD.refuse_more_than(5 * GIB, replace(ENGINE, park="host"))
    replace(HELD, training=8 * GIB).refuse_more_than(11 * GIB, ENGINE)


def test_where_nothing_is_trained_training_neither_is_told_nor_refuses(tiny_model: Path) -> None:
    settings = EngineSettings(rows=2, resident=5, chunk=32, widths=(96, 192))
    policy = Replicas(checkpoint.load(tiny_model), settings)
    sampling, whole = memory(policy), memory(policy, training=training_bytes(tiny_model))
    assert "Improve" not in sampling.line(settings)
    needed = sampling.weights + sampling.caches + sampling.parked
    assert needed < whole.weights + whole.training
    sampling.refuse_more_than(needed, settings)
    with pytest.raises(UserError, match=r"lower engine\.resident \(5\), or set engine\.park to host"):
        sampling.refuse_more_than(needed - 1, settings)
    with pytest.raises(UserError, match=r"Improve .* a smaller model"):
        whole.refuse_more_than(needed, settings)


def test_parked_rows_are_foretold_as_they_are_kept(tiny_model: Path) -> None:
    model = checkpoint.load(tiny_model)
    engine = Engine(model, EngineSettings(rows=2, resident=5, chunk=32, widths=(96, 192)))
    assert engine.parked_bytes == 3 * engine.pool_bytes(192) // 2
