"""One optimizer step, jitted once over the mesh: forward, backward, clip, update, with the old state donated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from rest_jax.config.improve import LoraSettings, Remat
from rest_jax.distributed.rules import batch_sharding, replicated
from rest_jax.models.config import ModelConfig
from rest_jax.models.decoder import Params, placed
from rest_jax.training.layout import embedding_sharding, layout
from rest_jax.training.lora import abstract_trained, merged
from rest_jax.training.loss import nll
from rest_jax.training.packing import Batch, micro_batches


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """All that a step changes, and all that a checkpoint holds."""

    params: Params
    """What is trained, in f32: the model's parameters, or their adapters."""
    opt_state: Any
    """The optimizer's moments and count."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StepMetrics:
    """Scalars of one step, over the whole batch."""

    loss: jax.Array
    """f32, nats per learned token (weighted mean)."""
    grad_norm: jax.Array
    """f32, global norm before clipping."""
    learned: jax.Array
    """int32, targets that the loss counted."""
    tokens: jax.Array
    """int32, tokens that are not padding."""


Step = Callable[[TrainState, Params, Batch, jax.Array], tuple[TrainState, StepMetrics]]
"""(state, frozen parameters f32, batch, learning rate f32 []) -> (state, metrics). Nothing is frozen, {}, where all is
trained."""


def state_shardings(
    config: ModelConfig, optimizer: optax.GradientTransformation, mesh: Mesh, lora: LoraSettings | None = None
) -> TrainState:
    """A `NamedSharding` for each leaf of the state: moments lie as their parameters do, the rest is whole."""
    params = layout(config, mesh, lora)

    def like_params(node: Any) -> bool:
        return isinstance(node, dict) and node.keys() == params.keys()

    opt_state = jax.tree.map(
        lambda node: params if like_params(node) else replicated(mesh),
        jax.eval_shape(optimizer.init, abstract_trained(config, lora)),
        is_leaf=like_params,
    )
    return TrainState(params, opt_state)


def abstract_state(
    config: ModelConfig,
    optimizer: optax.GradientTransformation,
    shardings: TrainState,
    lora: LoraSettings | None = None,
) -> TrainState:
    """The state's shapes, dtypes and shardings (`jax.ShapeDtypeStruct` leaves), with no memory behind them."""
    params = abstract_trained(config, lora)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        TrainState(params, jax.eval_shape(optimizer.init, params)),
        shardings,
    )


def initial_state(params: Params, optimizer: optax.GradientTransformation, shardings: TrainState) -> TrainState:
    """A state that starts from `params`, which stay the caller's: the state owns f32 copies, so donation is safe."""
    # device_put alone may alias replicated leaves of its source, even when asked not to.
    master = jax.tree.map(lambda leaf, to: jax.device_put(jnp.array(leaf, jnp.float32), to), params, shardings.params)
    return TrainState(master, jax.jit(optimizer.init, out_shardings=shardings.opt_state)(master))


@lru_cache(maxsize=8)
def make_step(
    config: ModelConfig,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    capacity: int,
    dtype: Any = jnp.float32,
    accumulate: int = 1,
    remat: Remat = "minimal",
    lora: LoraSettings | None = None,
) -> Step:
    """The jitted step. It donates the state: use the one that it returns, never the one that it was given.

    Equal arguments give the same step, compiled once: the learning rate is an input, so that the generations of a run
    need not wait for it again. With `lora` the state holds adapters, and each step is given the parameters beside them.
    `capacity` is the loss's static number of learned positions per row (`loss.capacity_for`). Parameters are cast to
    `dtype` for the forward and backward pass; gradients, moments and the loss are f32. The gradient is the sum of those
    of `accumulate` micro-batches, each divided by the learned tokens of the whole batch: a mean of their means would
    count a token more where its micro-batch has few, and over the sum of weights a batch of what hardly counts would
    make as large a step as any.
    """
    states, batches, whole = state_shardings(config, optimizer, mesh, lora), batch_sharding(mesh), replicated(mesh)
    bases, table = {} if lora is None else layout(config, mesh), embedding_sharding(mesh)

    def loss_of(trained: Params, frozen: Params, batch: Batch, learned: jax.Array) -> jax.Array:
        params = jax.tree.map(lambda leaf: leaf.astype(dtype), merged(frozen, trained, lora))
        params["embed"] = placed(params["embed"], table)
        # The weights are divided, not the sum: so the head's gradient, taken with the sum, needs no scaling.
        batch = replace(batch, weights_bt=batch.weights_bt / learned)
        return nll(config, params, batch, capacity=capacity, rows=batches, remat=remat)

    def loss_and_grads(trained: Params, frozen: Params, batch: Batch) -> tuple[jax.Array, Params]:
        of_part, learned = jax.value_and_grad(loss_of), jnp.sum(batch.weights_bt != 0)
        if accumulate == 1:  # without a sum, which would be another program with other last digits
            return of_part(trained, frozen, batch, learned)

        def add(sums: Any, part: Batch) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, sums, of_part(trained, frozen, part, learned)), None

        zeros = jax.lax.with_sharding_constraint(jax.tree.map(jnp.zeros_like, trained), states.params)
        sums, _ = jax.lax.scan(add, (jnp.zeros(()), zeros), micro_batches(batch, accumulate))
        return sums

    @partial(jax.jit, donate_argnums=0, in_shardings=(states, bases, batches, whole), out_shardings=(states, whole))
    def step(state: TrainState, frozen: Params, batch: Batch, rate: jax.Array) -> tuple[TrainState, StepMetrics]:
        loss, grads = loss_and_grads(state.params, frozen, batch)
        ascent, opt_state = optimizer.update(grads, state.opt_state, state.params)
        metrics = StepMetrics(
            loss=loss,
            grad_norm=optax.tree.norm(grads),
            learned=jnp.sum(batch.weights_bt != 0),
            tokens=jnp.sum(batch.segments_bt != 0),
        )
        updates = jax.tree.map(lambda leaf: -rate * leaf, ascent)
        params = cast(Params, optax.apply_updates(state.params, updates))
        return TrainState(params, opt_state), metrics

    return step
