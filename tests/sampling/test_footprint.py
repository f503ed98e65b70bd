"""Memory as it is foretold, and as it is then taken."""

from __future__ import annotations

import gc
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from sampling_toys import CONFIG, SETTINGS, prompt, request, run, tiny_model

from rest_jax.config.settings import EngineSettings
from rest_jax.distributed.mesh import make_mesh
from rest_jax.models.config import ModelConfig
from rest_jax.models.tensors import SINGLE, stored_params, write_params
from rest_jax.sampling.engine import Engine
from rest_jax.sampling.footprint import Footprint, footprint
from rest_jax.sampling.layout import layout
from rest_jax.sampling.state import Rows

SHARING = replace(SETTINGS, shared=45)
STOP_TABLE = 2 * 64 * CONFIG.vocab


def foretold(settings: EngineSettings, config: ModelConfig = CONFIG, dtype: str = "float32") -> Footprint:
    return footprint(config, settings, jnp.dtype(dtype), layout(config, make_mesh(tensor=settings.tensor)))


def held(device: Any) -> int:
    """Bytes of all arrays on a device; several may share a buffer."""
    gc.collect()
    shards = [shard for array in jax.live_arrays() for shard in array.addressable_shards if shard.device == device]
    return sum({shard.data.unsafe_buffer_pointer(): shard.data.nbytes for shard in shards}.values())


def engine_from_disk(settings: EngineSettings, dtype: str, folder: Path) -> Engine:
    write_params(CONFIG, tiny_model().params, folder / SINGLE)
    return Engine(replace(tiny_model(), params=stored_params(folder, CONFIG)), settings, dtype=dtype)


@pytest.mark.parametrize("tensor", [1, 2, 4])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_take_what_was_foretold(tensor: int, dtype: str, tmp_path: Path) -> None:
    settings, device = replace(SHARING, tensor=tensor), jax.devices()[0]
    before = held(device)
    engine = engine_from_disk(settings, dtype, tmp_path)
    assert held(device) - before == foretold(settings, dtype=dtype).weights
    assert not engine.busy


def test_caches_take_what_was_foretold(tmp_path: Path) -> None:
    settings, device = replace(SHARING, tensor=2), jax.devices()[0]
    engine = engine_from_disk(settings, "float32", tmp_path)
    before = held(device)
    engine.share([prompt(0, 40)])
    run(engine, request(0, prompt(1, 50)), request(1, prompt(2, 90)))
    states = 2 * SETTINGS.rows * (len(fields(Rows)) + 1) * 4  # a key is two words
    assert held(device) - before == foretold(settings).caches + states + STOP_TABLE


@pytest.mark.parametrize(("tensor", "cache_ways"), [(2, 2), (4, 1)])
def test_each_device_holds_its_part(tensor: int, cache_ways: int) -> None:
    """Two key/value heads do not divide by four: they stay whole."""
    settings = replace(SHARING, resident=12)
    alone, each = foretold(settings), foretold(replace(settings, tensor=tensor))
    assert (each.token, each.caches, each.parked) == tuple(
        count // cache_ways for count in (alone.token, alone.caches, alone.parked)
    )
    whole = 4 * (2 * CONFIG.layers + 1) * CONFIG.width  # norms
    if cache_ways != tensor:
        whole += 4 * 2 * CONFIG.layers * CONFIG.width * CONFIG.kv_heads * CONFIG.head_dim
    assert each.weights == whole + (alone.weights - whole) // tensor


def test_parked_rows_may_be_of_the_widest() -> None:
    assert foretold(SETTINGS).parked == 0
    parked = foretold(replace(SETTINGS, resident=3 * SETTINGS.rows))
    assert parked.parked == 2 * SETTINGS.rows * 128 * parked.token
    assert parked.token == 2 * CONFIG.layers * CONFIG.kv_heads * CONFIG.head_dim * 4


def test_what_a_step_takes_for_itself_is_not_more_than_foretold() -> None:
    programs = Engine(tiny_model(), SHARING).programs(sharing=True)
    analyses = [program.lower().compile().memory_analysis() for program in programs]
    taken = max(analysis.temp_size_in_bytes for analysis in analyses if analysis is not None)
    assert 0 < taken <= foretold(SHARING).working


def test_a_width_beyond_the_models_longest_context_is_not_counted() -> None:
    wide = replace(SETTINGS, widths=(64, 256, 512))
    assert foretold(wide).caches == foretold(replace(SETTINGS, widths=(64, 256))).caches
    assert foretold(wide).caches == foretold(wide).token * SETTINGS.rows * 320
