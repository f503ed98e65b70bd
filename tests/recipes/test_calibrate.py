"""What a machine does, measured on a real engine."""

from __future__ import annotations

import math
from pathlib import Path

from rest_jax.config.settings import EngineSettings
from rest_jax.models import checkpoint
from rest_jax.recipes.calibrate import TRAINED, measured_rates
from rest_jax.sampling.replicas import Replicas


def test_rates_are_measured_and_the_engine_is_left_as_it_was(tiny_model: Path) -> None:
    engine = Replicas(checkpoint.load(tiny_model), EngineSettings(rows=2, block=4, chunk=32, widths=(96,)))
    rates = measured_rates(engine, prompt_tokens=64, reply_tokens=8)
    assert all(0 < rate < math.inf for rate in (rates.sampled, rates.prefilled))
    assert rates.trained == rates.prefilled / TRAINED
    assert not engine.busy
    again = measured_rates(engine, prompt_tokens=64, reply_tokens=8)  # every session was given back
    assert 0 < again.sampled < math.inf
