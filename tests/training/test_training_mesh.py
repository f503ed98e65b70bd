"""A mesh is a place, not a method: what is learned on eight devices is what one device learns."""

import json
import os
import socket
import subprocess
import sys
from itertools import product
from pathlib import Path

import jax
import numpy as np
import pytest
from mesh_steps import CONFIG, Learned, batches, learned

from rest_jax.config.improve import ImproveSettings, MeshSettings
from rest_jax.core.errors import UserError
from rest_jax.core.events import silent
from rest_jax.models import decoder
from rest_jax.training.checkpoint import Progress, open_checkpoints
from rest_jax.training.layout import layout, mesh_of
from rest_jax.training.optimizer import optimizer
from rest_jax.training.step import abstract_state, state_shardings

HERE = Path(__file__).parent
DEVICES = 8
EVERY_WAY = [shape for shape in product((1, 2, 4, 8), repeat=3) if np.prod(shape) == DEVICES]
VALID = [shape for shape in EVERY_WAY if CONFIG.kv_heads % shape[2] == 0]


@pytest.fixture(scope="module")
def alone():
    return learned((1, 1, 1))


def assert_learned_alike(here, alone):
    np.testing.assert_allclose(here.losses, alone.losses, rtol=0, atol=1e-5)
    for ours, theirs in zip(here.grads, alone.grads, strict=True):
        assert np.linalg.norm(ours - theirs) <= 1e-4 * np.linalg.norm(theirs)


def test_it_learns(alone):
    assert alone.losses[-1] < alone.losses[0] - 0.1


@pytest.mark.parametrize("shape", VALID, ids=str)
def test_eight_devices_learn_what_one_learns_and_hold_an_eighth(alone, shape):
    here = learned(shape)
    assert_learned_alike(here, alone)
    assert here.array * DEVICES <= alone.array


@pytest.mark.slow
@pytest.mark.multiprocess
@pytest.mark.parametrize(("processes", "shape"), [(2, (2, 2, 2)), (4, (1, 4, 2))])
def test_processes_learn_together_what_one_learns(alone, processes, shape):
    assert_learned_alike(learned_by(processes, shape), alone)


def learned_by(processes, shape):
    """What that many processes learn, each with its part of the devices."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE)]),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES // processes}",
    }
    started = [
        subprocess.Popen(
            [sys.executable, HERE / "mesh_steps.py", coordinator, *map(str, (processes, index, *shape))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for index in range(processes)
    ]
    try:
        (said, *_), errors = zip(*(process.communicate(timeout=600) for process in started), strict=True)
    finally:
        for process in started:
            process.kill()
    assert not any(process.returncode for process in started), errors
    told = json.loads(said.splitlines()[-1])  # gloo tells of itself before
    return Learned(told["losses"], [np.asarray(leaf, np.float32) for leaf in told["grads"]], told["array"])


def test_what_would_split_a_head_is_refused_with_the_sizes_that_do():
    refused = [shape for shape in EVERY_WAY if shape not in VALID]
    assert refused == [(1, 1, 8)]
    for shape in refused:
        with pytest.raises(UserError, match=r"tensor = 8 does not divide 4 kv_heads .* set tensor to one of 1, 2, 4$"):
            layout(CONFIG, mesh_of(MeshSettings(*shape)))


def test_what_eight_devices_keep_four_and_one_restore(tmp_path):
    made, draw, batch = optimizer(ImproveSettings()), np.random.default_rng(0), batches()[0]

    def over(shape):
        return abstract_state(CONFIG, made, state_shardings(CONFIG, made, mesh_of(MeshSettings(*shape))))

    def drawn(leaf):
        return jax.device_put(draw.normal(0, 0.1, leaf.shape).astype(leaf.dtype), leaf.sharding)

    @jax.jit
    def logits(params, batch):
        x_btd = decoder.hidden_states(CONFIG, params, batch.ids_bt, batch.positions_bt, batch.segments_bt)
        return decoder.logits(CONFIG, params, decoder.final_norm(CONFIG, params, x_btd))

    state = jax.tree.map(drawn, over((2, 2, 2)))
    kept, expected = jax.tree.map(np.asarray, state), np.asarray(logits(state.params, batch))
    for shape in ((1, 2, 2), (1, 1, 1)):
        with open_checkpoints(tmp_path / str(shape), "inputs", silent, asynchronous=True) as checkpoints:
            checkpoints.save(state, Progress((1.0,)))
            jax.tree.map(lambda leaf: leaf.delete(), state)  # as a step does that donates it
            checkpoints.wait()
            state, _ = checkpoints.newest(like=over(shape))
        jax.tree.map(np.testing.assert_array_equal, state, kept)
        assert jax.tree.map(lambda leaf: leaf.sharding, state) == jax.tree.map(lambda leaf: leaf.sharding, over(shape))
        np.testing.assert_allclose(logits(state.params, batch), expected, rtol=0, atol=1e-5)
