"""Weights are placed tensor by tensor, from wherever they are, and are the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampling_toys import CONFIG, SETTINGS, prompt, request, run, tiny_model

from rest_jax.core.errors import UserError
from rest_jax.distributed.mesh import make_mesh
from rest_jax.distributed.rules import parameter_shardings
from rest_jax.models.axes import axis_sizes, parameter_axes
from rest_jax.models.tensors import SINGLE, stored_params, write_params
from rest_jax.sampling import weights
from rest_jax.sampling.engine import Engine
from rest_jax.sampling.layout import layout

TIED = replace(CONFIG, tied=True)


def query_of(view: weights.View) -> jax.Array:
    return view["layers"][1]["attention"]["query"]["kernel"]


def same(one: weights.View, other: weights.View) -> bool:
    alike = jax.tree.map(lambda a, b: a.dtype == b.dtype and np.array_equal(np.asarray(a), np.asarray(b)), one, other)
    return all(jax.tree.leaves(alike))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("config", [CONFIG, TIED], ids=["untied", "tied"])
def test_from_disk_from_devices_and_from_another_sampler_they_are_the_same(config, dtype, tmp_path: Path) -> None:
    params = dict(tiny_model().params)
    if config.tied:
        del params["head"]
    write_params(config, params, tmp_path / SINGLE)
    alone = weights.shapes(config, jnp.dtype(dtype), layout(config, make_mesh()))
    wide = weights.shapes(config, jnp.dtype(dtype), layout(config, make_mesh(tensor=2, devices=jax.devices()[2:])))
    from_device = weights.placed(params, alone)
    from_disk = weights.placed(stored_params(tmp_path, config), wide)
    from_another = weights.placed(from_device, wide)
    training = parameter_shardings(make_mesh(2, 2, 2), parameter_axes(config), axis_sizes(config))
    from_training = weights.placed(jax.device_put(params, training), wide)
    for found, wanted in ((from_device, alone), (from_disk, wide), (from_another, wide), (from_training, wide)):
        assert same(found, from_device)
        for leaf, to in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            assert (leaf.shape, leaf.dtype, leaf.sharding) == (to.shape, to.dtype, to.sharding)
    head_dv = params["embed"].T if config.tied else params["head"]
    query_df = params["blocks"]["attention"]["query"]["kernel"][1]
    for by_rows, ours in ((head_dv, weights.head_vd(from_disk)), (query_df, query_of(from_disk))):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(by_rows.T.astype(dtype)))
    assert ("head" in from_disk) is not config.tied


def test_an_engine_loads_from_disk(tmp_path: Path) -> None:
    other, one = tiny_model(1), request(0, prompt(0, 20))
    write_params(CONFIG, other.params, tmp_path / SINGLE)
    engine = Engine(tiny_model(), SETTINGS)
    engine.load(stored_params(tmp_path, CONFIG), "other")
    assert run(engine, one) == run(Engine(other, SETTINGS), one)


def test_a_tensor_of_another_shape_is_named_when_it_is_read(tmp_path: Path) -> None:
    write_params(CONFIG, tiny_model().params, tmp_path / SINGLE)
    wider = replace(CONFIG, hidden=256)
    stored = stored_params(tmp_path, wider)
    with pytest.raises(UserError, match=r"mlp.* is float32 .*, config.json asks for a float tensor"):
        weights.placed(stored, weights.shapes(wider, jnp.dtype("float32"), layout(wider, make_mesh())))
