"""Steps over a mesh: a function for tests, and a process of several that make them together:
python mesh_steps.py COORDINATOR PROCESSES INDEX DATA FSDP TENSOR. The first process prints what they learned."""

import json
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental.multihost_utils import process_allgather
from training_world import largest_array, random_examples

from rest_jax.config.improve import MeshSettings
from rest_jax.distributed.rules import batch_sharding
from rest_jax.models import decoder
from rest_jax.models.config import ModelConfig
from rest_jax.training.layout import mesh_of
from rest_jax.training.loss import capacity_for
from rest_jax.training.packing import batch_of, schedule
from rest_jax.training.step import initial_state, make_step, state_shardings

CONFIG = ModelConfig(vocab=192, width=32, layers=2, heads=8, kv_heads=4, head_dim=8, hidden=64, max_positions=64)
STEPS, ROWS, LENGTH = 5, 8, 24
SGD = optax.trace(decay=0.0)
"""Its direction is the gradient, and its state holds that."""


class Learned(NamedTuple):
    losses: list[float]
    grads: list[np.ndarray]
    """Of the first step, leaf by leaf."""
    array: int
    """Elements of the largest one on a device."""


def batches():
    examples = random_examples(24)
    plans = schedule(examples, steps=STEPS, rows=ROWS, length=LENGTH, seed=0)
    return [batch_of(examples, plan, LENGTH) for plan in plans]


def learned(shape):
    mesh, rate = mesh_of(MeshSettings(*shape)), jnp.float32(0.3)
    params = decoder.init(CONFIG, jax.random.key(0))
    state, grads, losses = initial_state(params, SGD, state_shardings(CONFIG, SGD, mesh)), None, []
    placed = jax.device_put(batches(), batch_sharding(mesh))
    step = make_step(CONFIG, SGD, mesh, capacity=capacity_for(LENGTH, LENGTH)).lower(state, {}, placed[0], rate)
    # How well LLVM optimises is not what is tested, and half of the time.
    program = step.compile(compiler_options={"xla_backend_optimization_level": 0})
    for batch in placed:
        state, metrics = program(state, {}, batch, rate)
        losses.append(float(metrics.loss))
        grads = grads or jax.tree.leaves(process_allgather(state.opt_state.trace, tiled=True))
    return Learned(losses, grads, largest_array(program))


def main(coordinator, processes, index, *shape):
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, int(processes), int(index))
    here = learned(map(int, shape))
    if jax.process_index() == 0:
        told = here._replace(grads=[leaf.tolist() for leaf in here.grads])
        print(json.dumps(told._asdict()))


if __name__ == "__main__":
    main(*sys.argv[1:])
