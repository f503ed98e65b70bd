"""Fit: a model, examples and settings in; fine-tuned parameters out; a kill at any moment costs one interval."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from rest_jax.config.improve import LoraSettings
from rest_jax.config.limits import checked
from rest_jax.config.settings import ImproveSettings
from rest_jax.core.canonical import digest
from rest_jax.core.errors import UserError
from rest_jax.core.events import Event, Listener, notice, warning
from rest_jax.core.termination import Terminated, postponed
from rest_jax.distributed.rules import batch_sharding
from rest_jax.models.config import ModelConfig
from rest_jax.models.decoder import Params
from rest_jax.models.dtypes import compute_dtype
from rest_jax.training.checkpoint import Progress, open_checkpoints
from rest_jax.training.examples import Example
from rest_jax.training.layout import layout, mesh_of
from rest_jax.training.lora import initial_adapters, merged
from rest_jax.training.loss import capacity_for
from rest_jax.training.optimizer import learning_rate, optimizer
from rest_jax.training.packing import batch_of, fitting, most_learned, schedule
from rest_jax.training.step import StepMetrics, abstract_state, initial_state, make_step, state_shardings

STAGE = "improve"


@dataclass(frozen=True, eq=False)
class FitResult:
    """What a fit made, and what it took; counts and seconds include the part before an interruption."""

    params: Params
    """f32, laid out over the fit's mesh; adapters are merged into them."""
    steps: int
    losses: tuple[float, ...]
    """Nats per learned token, one per step."""
    seconds: float
    """Wall time of the steps, compilation included."""
    tokens: int
    """Tokens trained on, context included and padding not."""


def fit(
    config: ModelConfig,
    params: Params,
    examples: Sequence[Example],
    settings: ImproveSettings,
    *,
    start: str,
    seed: int,
    folder: Path,
    emit: Listener,
) -> FitResult:
    """Fine-tune `params`, or adapters beside them, on `examples` for `settings.steps` optimizer steps (Improve of ReST,
    Algorithm 1).

    `start` names the parameters, by their digest: a fit goes on from checkpoints that began with the same alone. The
    loss is the mean over learned tokens of their negative log-likelihood times their weight, whose mean is made 1
    over all examples. Optimizer and schedule start anew. `params` are left as they are; what is trained, and its
    moments, are f32.

    Every `settings.checkpoint_every` steps, the last one excepted, the state goes to `folder`; a repeated call goes on
    from there and ends in the same bits (same mesh, same versions). SIGTERM ends it with Terminated after the step in
    which it came, whose state is kept, unless the mesh is of several processes.

    Emits `metrics` and `progress` events for every step. UserError for settings that will not do, when there is
    nothing to learn from, when the mesh has more devices than there are or does not divide the model, when the folder
    belongs to another fit, or when the loss is not finite.
    """
    checked(settings, "improve")
    mesh, dtype = mesh_of(settings.mesh), compute_dtype(settings.dtype)
    trained = _trainable(examples, settings, emit)
    plans = schedule(trained, steps=settings.steps, rows=settings.rows, length=settings.length, seed=seed)
    made = optimizer(settings)
    rate = learning_rate(settings)
    lora = settings.lora
    frozen, begun_with = ({}, params) if lora is None else beside_adapters(config, params, lora, mesh, seed)
    shardings = state_shardings(config, made, mesh, lora)
    capacity = capacity_for(most_learned(trained, plans), settings.length)
    step = make_step(
        config,
        made,
        mesh,
        capacity=capacity,
        dtype=dtype,
        accumulate=settings.accumulate,
        remat=settings.remat,
        lora=lora,
    )
    inputs = digest([asdict(settings), asdict(config), start, seed, dtype.name, _mixture_digest(trained)])

    # Of several processes none can keep a step by itself: there SIGTERM ends all, at once.
    until_kept = postponed() if jax.process_count() == 1 else nullcontext(lambda: False)
    with open_checkpoints(folder, inputs, emit) as checkpoints, until_kept as terminated:
        found = checkpoints.newest(like=abstract_state(config, made, shardings, lora))
        if found is None:
            state, progress = initial_state(begun_with, made, shardings), Progress()
        else:
            state, progress = found
            notice(emit, f"going on from the checkpoint after step {progress.steps} of {settings.steps}")
        while progress.steps < settings.steps:
            begun = time.monotonic()
            batch = batch_of(trained, plans[progress.steps], settings.length)
            learning = jnp.asarray(rate(progress.steps), jnp.float32)
            state, metrics = step(state, frozen, jax.device_put(batch, batch_sharding(mesh)), learning)
            progress = _advanced(progress, metrics, begun)
            _emit_step(emit, progress, metrics, settings, float(learning))
            due = progress.steps % settings.checkpoint_every == 0 and progress.steps < settings.steps
            if (ending := terminated()) or due:
                checkpoints.save(state, progress)
            if ending:
                raise Terminated(f"the state after step {progress.steps} of {settings.steps} of {STAGE} is kept")
    learned = merged(frozen, state.params, lora)
    return FitResult(learned, progress.steps, progress.losses, progress.seconds, progress.tokens)


def _trainable(examples: Sequence[Example], settings: ImproveSettings, emit: Listener) -> list[Example]:
    """The examples that fit into a row; those left out are counted in a warning."""
    learnable = [example for example in examples if example.learn[1:].any()]
    if not learnable:
        raise UserError(
            "improve: the mixture holds no reply to learn from; see how its trajectories ended (`rest-jax report`): "
            "one that has no room in engine.widths says nothing"
        )
    trained = fitting(learnable, settings.length)
    if not trained:
        raise UserError(
            f"improve: all {len(learnable)} examples are longer than a row; set improve.length (now {settings.length}) "
            f"to at least {min(len(example.ids) for example in learnable)}"
        )
    if len(trained) < len(learnable):
        warning(
            emit,
            f"improve: {len(learnable) - len(trained)} of {len(learnable)} examples are longer than improve.length="
            f"{settings.length} tokens and were left out; the longest has "
            f"{max(len(example.ids) for example in learnable)}",
        )
    return _balanced(trained)


def _balanced(examples: list[Example]) -> list[Example]:
    """The same with weights of mean 1 over all learned tokens, so that no scale of theirs is a learning rate's."""
    learned = sum(int(example.learn[1:].sum()) for example in examples)
    average = sum(float(example.weights[1:].sum()) for example in examples) / learned
    if average == 1.0:
        return examples
    return [replace(example, weights=(example.weights / average).astype(np.float32)) for example in examples]


def beside_adapters(
    config: ModelConfig, params: Params, lora: LoraSettings, mesh: Mesh, seed: int
) -> tuple[Params, Params]:
    """The parameters, which stay as they are, in f32 over the mesh; and the adapters that training begins with, drawn
    from `seed`."""
    frozen = jax.tree.map(lambda leaf, to: jax.device_put(leaf.astype(jnp.float32), to), params, layout(config, mesh))
    return frozen, initial_adapters(config, lora, jax.random.key(seed, impl="threefry2x32"))


def _mixture_digest(examples: Sequence[Example]) -> str:
    hasher = sha256()
    for example in examples:
        hasher.update(digest([example.trajectory_id, len(example.ids)]).encode())
        hasher.update(example.ids.tobytes() + example.weights.tobytes())
    return hasher.hexdigest()


def _advanced(progress: Progress, metrics: StepMetrics, begun: float) -> Progress:
    """The progress after one more step; waits for the device."""
    loss = float(metrics.loss)
    if not math.isfinite(loss):
        raise UserError(
            f"improve: the loss is {loss} at step {progress.steps + 1}; lower improve.learning_rate (the last "
            f"checkpoint is untouched), or train in float32"
        )
    return Progress(
        losses=(*progress.losses, loss),
        tokens=progress.tokens + int(metrics.tokens),
        seconds=progress.seconds + time.monotonic() - begun,
    )


def _emit_step(
    emit: Listener, progress: Progress, metrics: StepMetrics, settings: ImproveSettings, rate: float
) -> None:
    numbers = {
        "loss": progress.losses[-1],
        "grad_norm": float(metrics.grad_norm),
        "learning_rate": rate,
        "learned_tokens": int(metrics.learned),
        "tokens": int(metrics.tokens),
        "tokens_per_second": progress.tokens / progress.seconds,
    }
    emit(Event("metrics", {"stage": STAGE, "step": progress.steps, **numbers}))
    emit(Event("progress", {"stage": STAGE, "done": progress.steps, "total": settings.steps, "unit": "steps"}))
