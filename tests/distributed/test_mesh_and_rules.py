"""The mesh and the axis rules: the same forward on eight devices as on one, and clear refusals."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rest_jax.core.errors import UserError
from rest_jax.distributed.mesh import AXES, make_mesh
from rest_jax.distributed.rules import AxisRules, batch_sharding, parameter_shardings, replicated
from rest_jax.models import decoder
from rest_jax.models.axes import axis_sizes, parameter_axes
from rest_jax.models.config import ModelConfig

CONFIG = ModelConfig(vocab=96, width=32, layers=2, heads=8, kv_heads=4, head_dim=8, hidden=64, max_positions=64)
SMOLLM2 = ModelConfig(49152, 576, 30, 9, 3, 64, 1536, 8192, tied=True)


@pytest.fixture(scope="module")
def params() -> decoder.Params:
    return decoder.init(CONFIG, jax.random.key(0))


def _shardings(mesh, config: ModelConfig = CONFIG, rules: AxisRules | None = None):
    return parameter_shardings(mesh, parameter_axes(config), axis_sizes(config), rules)


@pytest.mark.parametrize("shape", [(2, 2, 2), (1, 8, 1), (8, 1, 1), (1, 2, 4)])
def test_forward_on_eight_devices_equals_one(shape: tuple[int, int, int], params) -> None:
    ids_bt = np.random.default_rng(1).integers(CONFIG.vocab, size=(8, 12), dtype=np.int32)
    inputs = (ids_bt, jnp.tile(jnp.arange(12), (8, 1)), jnp.ones((8, 12), jnp.int32))
    forward = jax.jit(partial(decoder.hidden_states, CONFIG))
    alone = forward(params, *inputs)

    mesh = make_mesh(*shape)
    divided = jax.device_put(params, _shardings(mesh))
    together = forward(divided, *jax.device_put(inputs, batch_sharding(mesh)))
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_parameters_are_divided_as_the_rules_say(params) -> None:
    mesh = make_mesh(2, 2, 2)
    divided = jax.device_put(params, _shardings(mesh))
    query = divided["blocks"]["attention"]["query"]["kernel"]
    assert query.shape == (2, 32, 64)
    assert query.addressable_shards[0].data.shape == (2, 16, 32)
    assert divided["norm"].addressable_shards[0].data.shape == (32,)


def test_axes_are_always_there() -> None:
    mesh = make_mesh()
    assert mesh.axis_names == AXES
    assert mesh.size == 1
    assert jax.device_put(jnp.ones(3), replicated(mesh)).sharding.is_fully_replicated


def test_refuses_a_tensor_axis_that_would_split_a_head() -> None:
    with pytest.raises(UserError, match=r"tensor = 2 does not divide 9 heads, 3 kv_heads .* one of 1, 3$"):
        _shardings(make_mesh(tensor=2), SMOLLM2)
    assert _shardings(make_mesh(tensor=3), SMOLLM2)["embed"].spec == jax.sharding.PartitionSpec("tensor", "fsdp")


def test_rules_may_leave_an_axis_whole() -> None:
    rules = AxisRules(heads=None, kv_heads=None)
    shardings = _shardings(make_mesh(tensor=2), SMOLLM2, rules)
    assert shardings["blocks"]["attention"]["key"]["kernel"].spec == jax.sharding.PartitionSpec(None, "fsdp", None)


def test_refuses_more_devices_than_there_are() -> None:
    with pytest.raises(UserError, match="needs 64 devices"):
        make_mesh(8, 8, 1)
    with pytest.raises(UserError, match="at least 1"):
        make_mesh(0, 1, 1)
