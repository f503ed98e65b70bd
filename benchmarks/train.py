"""How fast Improve learns: our training step beside Hugging Face transformers' on the same weights and examples.

    python -m benchmarks.train --json OUT [--quick] [--model NAME] [--rows N] [--length N] [--repeats N] [--torch PY]

All train on the batch that `fit` would take first of Atlas' gold demonstrations (the ReAct agent's trajectories, bare),
in float32, with the same clipping and AdamW. Before anything is timed, the loss and the gradient's norm of all must
agree. Then they take turns; a turn is one optimizer step, from the batch on the host until loss and weights are there.

tok_s         tokens per second, padding left out
useful_tok_s  tokens that the loss counts, per second: those that the model itself is to say
mfu           operations that the loss needs, over the seconds and the rate of a measured matrix product
              (`benchmarks.roofline`): 6 for each parameter of the blocks and token, 6 for each of the head and token
              that the loss counts, and 6 · layers · heads · head_dim · n² for an example of n tokens (causal attention:
              half of all pairs). What is computed anew, for padding or for no loss is not counted
peak_gb       resident memory of the contender's process at its greatest within a turn, libraries and all; on a CPU only
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from itertools import count
from operator import attrgetter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.hf import Absent, Worker
from benchmarks.measure import Spread, circumstances, interleaved, named, publish, show
from benchmarks.memory import forget_peak, peak_bytes
from benchmarks.models import SHAPES, model_of, write
from benchmarks.roofline import ceilings
from rest_jax.config.improve import LoraSettings, Remat
from rest_jax.config.settings import AgentSettings, ImproveSettings, TaskSettings
from rest_jax.core.cache import cache_folder
from rest_jax.core.errors import UserError
from rest_jax.core.huge_pages import start_in_huge_pages
from rest_jax.core.policy import TextCodec
from rest_jax.distributed.compilation import keep_compiled
from rest_jax.distributed.mesh import make_mesh
from rest_jax.distributed.rules import batch_sharding
from rest_jax.models import attention, decoder
from rest_jax.models.config import ModelConfig
from rest_jax.models.decoder import Params
from rest_jax.models.tensors import read_params
from rest_jax.recipes.rehearsal import REHEARSED, rehearsed
from rest_jax.tasks.registry import task
from rest_jax.training import packing
from rest_jax.training.examples import Example, examples_of
from rest_jax.training.fit import beside_adapters
from rest_jax.training.loss import capacity_for
from rest_jax.training.optimizer import learning_rate, optimizer
from rest_jax.training.packing import Batch
from rest_jax.training.step import Step, StepMetrics, TrainState, initial_state, make_step, state_shardings

OURS, PACKED = "rest_jax", "hf-packed"
WORKER = "benchmarks.hf_train_worker"
DTYPE = "float32"
COLUMNS = {
    "engine": "engine",
    "rows": "rows",
    "length": "length",
    "tok/s": "tok_s",
    "useful": "useful_tok_s",
    "MFU": "mfu",
    "GB": "peak_gb",
    "s": "seconds",
    "least": "seconds_least",
    "most": "seconds_most",
    "×": "ours_times",
}
LEGEND = "useful: tokens/s that the loss counts; GB: peak of resident memory; ×: how many times as fast rest_jax is"
LOSS_TOLERANCE, NORM_TOLERANCE = 1e-4, 1e-3
"""Relative; sums in another order come to some 1e-6."""
IGNORED = -100
"""The label of a token that transformers' loss leaves out."""


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    model: str = "smollm2-135m-instruct-q4_1"
    rows: int = ImproveSettings.rows
    length: int = ImproveSettings.length
    repeats: int = 5


QUICK = Plan(length=256, repeats=2)


@dataclass(frozen=True, eq=False)
class Work:
    """The step that all make."""

    config: ModelConfig
    weights: Path
    """A folder; transformers reads it too."""
    settings: ImproveSettings
    examples: Sequence[Example]
    """Of the batch, in its order."""
    packed: packing.Plan
    """Which of them share a row in `fit`."""

    @property
    def padded(self) -> packing.Plan:
        """A row for each."""
        return tuple((index,) for index in range(len(self.examples)))

    def batch(self, rows: packing.Plan) -> Batch:
        """As long as `fit`'s rows when they are these, or else as the longest example."""
        longest = max(len(example.ids) for example in self.examples)
        return packing.batch_of(self.examples, rows, self.settings.length if rows == self.packed else longest)

    @property
    def rate(self) -> float:
        """The learning rate of the first step."""
        return float(learning_rate(self.settings)(0))

    @property
    def tokens(self) -> int:
        return sum(len(example.ids) for example in self.examples)

    @property
    def learned(self) -> int:
        """Tokens that the loss counts."""
        return sum(int(example.learn[1:].sum()) for example in self.examples)

    @property
    def operations(self) -> float:
        """What the loss and its gradient need: `mfu` above."""
        config = self.config
        blocks = sum(leaf.size for leaf in jax.tree.leaves(decoder.abstract_params(config)["blocks"]))
        pairs = sum(len(example.ids) ** 2 for example in self.examples)
        attended = config.layers * config.heads * config.head_dim * pairs
        return 6.0 * (blocks * self.tokens + config.width * config.vocab * self.learned + attended)


@dataclass(frozen=True)
class Turn:
    """One step."""

    seconds: float
    loss: float
    grad_norm: float | None
    """Of all parameters; None where others are trained."""
    peak_bytes: int | None


@dataclass(frozen=True, eq=False)
class Contender:
    """Whoever makes the step."""

    what: str
    batch: Batch
    check: Callable[[], Turn]
    """From the model's own weights."""
    turn: Callable[[], Turn]


def fit_step(work: Work, settings: ImproveSettings, rows: packing.Plan) -> Step:
    capacity = capacity_for(packing.most_learned(work.examples, [rows]), work.batch(rows).ids_bt.shape[1])
    return make_step(
        work.config, optimizer(settings), make_mesh(), capacity=capacity, remat=settings.remat, lora=settings.lora
    )


def plain_step(work: Work, settings: ImproveSettings, rows: packing.Plan) -> Step:
    """Layer after layer, the logits of all positions at once, nothing computed anew."""
    return _plain_step(work.config, optimizer(settings))


@lru_cache
def _plain_step(config: ModelConfig, made: optax.GradientTransformation) -> Step:
    def loss_of(params: Params, batch: Batch) -> jax.Array:
        def attend(q_btnh: jax.Array, k_btkh: jax.Array, v_btkh: jax.Array, spec: attention.Spec) -> jax.Array:
            return attention.packed_causal(q_btnh, k_btkh, v_btkh, spec, batch.segments_bt)

        x_btd = decoder.embed(config, params, batch.ids_bt)
        for index in range(config.layers):
            kind, layer = decoder.layer_kind(config, index), decoder.layer(params, index)
            x_btd = decoder.apply_block(config, kind, layer, x_btd, batch.positions_bt, attend)
        logits_btv = decoder.logits(config, params, decoder.final_norm(config, params, x_btd))
        nll_bt = optax.softmax_cross_entropy_with_integer_labels(logits_btv, batch.targets_bt)
        return jnp.sum(nll_bt * batch.weights_bt) / jnp.sum(batch.weights_bt)

    @partial(jax.jit, donate_argnums=0)
    def step(state: TrainState, frozen: Params, batch: Batch, rate: jax.Array) -> tuple[TrainState, StepMetrics]:
        loss, grads = jax.value_and_grad(loss_of)(state.params, batch)
        ascent, opt_state = made.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, jax.tree.map(lambda leaf: -rate * leaf, ascent))
        learned, tokens = jnp.sum(batch.weights_bt != 0), jnp.sum(batch.segments_bt != 0)
        return TrainState(params, opt_state), StepMetrics(loss, optax.tree.norm(grads), learned, tokens)

    return step


@dataclass(frozen=True)
class Variant:
    """One of ours."""

    what: str
    rows: Callable[[Work], packing.Plan] = attrgetter("packed")
    step: Callable[[Work, ImproveSettings, packing.Plan], Step] = fit_step
    remat: Remat = "minimal"
    lora: LoraSettings | None = None


VARIANTS = {
    OURS: Variant("as `fit` trains"),
    "padded": Variant("a row for each example, as long as the longest", rows=attrgetter("padded")),
    "plain": Variant("packed; all logits at once, nothing computed anew", step=plain_step),
    "full-remat": Variant("packed; whole layers computed anew", remat="full"),
    "lora": Variant("packed; adapters are trained", lora=LoraSettings()),
}
"""A further one joins by its line."""


def work_of(plan: Plan, config: ModelConfig, codec: TextCodec, weights: Path) -> Work:
    """The step of a plan. UserError when no example fits into a row."""
    played = rehearsed(task(TaskSettings()), codec, AgentSettings(), REHEARSED)
    every = [example for one in played for example in examples_of(one, codec, prompt="bare")]
    examples = packing.fitting(every, plan.length)
    if not examples:
        shortest = min(len(example.ids) for example in every)
        raise UserError(f"--length: {plan.length} tokens hold no example; take {shortest} or more")
    (chosen,) = packing.schedule(examples, steps=1, rows=plan.rows, length=plan.length, seed=0)
    place = count()
    return Work(
        config,
        weights,
        ImproveSettings(rows=plan.rows, length=plan.length),
        examples=[examples[index] for row in chosen for index in row],
        packed=tuple(tuple(next(place) for _ in row) for row in chosen),
    )


def ours(variant: Variant, work: Work) -> Contender:
    """Each of its turns makes two steps from the model's own weights. The first one finds a state that was just made,
    and its figures are what is checked; the second one is timed."""
    rows, lora, mesh = variant.rows(work), variant.lora, make_mesh()
    settings = replace(work.settings, remat=variant.remat, lora=lora)
    made = optimizer(settings)
    step, batch, rate = variant.step(work, settings, rows), work.batch(rows), jnp.float32(work.rate)
    shardings = state_shardings(work.config, made, mesh, lora)

    def turn() -> Turn:
        params = read_params(work.weights, work.config, np.dtype(DTYPE))
        frozen, start = ({}, params) if lora is None else beside_adapters(work.config, params, lora, mesh, seed=0)
        del params
        state = jax.block_until_ready(initial_state(start, made, shardings))
        del start

        def stepped(state: TrainState) -> tuple[TrainState, StepMetrics]:
            return jax.block_until_ready(step(state, frozen, jax.device_put(batch, batch_sharding(mesh)), rate))

        state, metrics = stepped(state)
        forget_peak()
        began = time.perf_counter()
        stepped(state)
        seconds = time.perf_counter() - began
        peak = peak_bytes() if jax.default_backend() == "cpu" else None
        return Turn(seconds, float(metrics.loss), float(metrics.grad_norm) if lora is None else None, peak)

    return Contender(variant.what, batch, check=turn, turn=turn)


def theirs(worker: Worker, engine: str, work: Work) -> Contender:
    """One of the worker's engines, which share a model; its turns go on from the weights that it has come to."""
    batch = work.batch(work.packed if engine == PACKED else work.padded)
    # transformers predicts each label from the token before it.
    labels_bt = np.full(batch.ids_bt.shape, IGNORED)
    labels_bt[:, 1:] = np.where(batch.weights_bt, batch.targets_bt, IGNORED)[:, :-1]
    told = {"positions": batch.positions_bt} if engine == PACKED else {"mask": 1 * (batch.segments_bt != 0)}
    rows = {"ids": batch.ids_bt, "labels": labels_bt, **told}
    order = {name: np.asarray(values_bt).tolist() for name, values_bt in rows.items()}
    order |= {"engine": engine, "rate": work.rate, "clip": work.settings.clip}

    def turn(update: bool) -> Turn:
        return Turn(**worker.asked(order | {"update": update}))

    return Contender(worker.about["engines"][engine], batch, check=partial(turn, False), turn=partial(turn, True))


def check(turns: Mapping[str, Turn]) -> str:
    """A sentence on how far loss and gradient norm agree. RuntimeError when they do not."""
    known, farthest = turns[OURS], []
    for what, tolerance in (("loss", LOSS_TOLERANCE), ("grad_norm", NORM_TOLERANCE)):
        found = {name: figure for name, turn in turns.items() if (figure := getattr(turn, what)) is not None}
        apart = {name: abs(figure / getattr(known, what) - 1) for name, figure in found.items()}
        name = max(apart, key=apart.__getitem__)
        if not apart[name] <= tolerance:
            raise RuntimeError(f"{name}'s {what} is {found[name]}, {OURS}'s {getattr(known, what)}")
        farthest.append(apart[name])
    return (
        f"checked first: the loss {known.loss:.6f} of all {len(turns)} agrees within {farthest[0]:.0e}, the gradient "
        f"norm {known.grad_norm:.6f} of those that train every parameter within {farthest[1]:.0e}"
    )


def measure(contenders: Mapping[str, Contender], work: Work, repeats: int) -> tuple[list[dict[str, Any]], str]:
    """The rows, and what the check says."""
    checked = check({name: contender.check() for name, contender in contenders.items()})
    peak = ceilings(DTYPE).flops_per_s

    def turn(contender: Contender, repeat: int) -> Turn:
        return contender.turn()

    # In the first round torch makes its moments.
    taken = interleaved({name: partial(turn, one) for name, one in contenders.items()}, repeats + 1, "training steps")
    turns = {name: some[1:] for name, some in taken.items()}
    return [
        {
            "engine": name,
            "what": contenders[name].what,
            "rows": contenders[name].batch.ids_bt.shape[0],
            "length": contenders[name].batch.ids_bt.shape[1],
            "examples": len(work.examples),
            "tokens": work.tokens,
            "learned": work.learned,
            **row(work, peak, some, turns[OURS]),
        }
        for name, some in turns.items()
    ], checked


def row(work: Work, peak_flops: float, turns: Sequence[Turn], known: Sequence[Turn]) -> dict[str, Any]:
    """The figures of one contender's turns, beside those of the same repeats that are `known`."""
    seconds = Spread.of([turn.seconds for turn in turns])
    held = [turn.peak_bytes for turn in turns if turn.peak_bytes is not None]
    times = Spread.of([turn.seconds / ours.seconds for turn, ours in zip(turns, known, strict=True)])
    return {
        "repeats": len(turns),
        **named("seconds", seconds),
        "tok_s": work.tokens / seconds.median,
        "useful_tok_s": work.learned / seconds.median,
        # Adapters need no gradient of what lies beside them: other operations.
        "mfu": None if any(turn.grad_norm is None for turn in turns) else work.operations / seconds.median / peak_flops,
        "peak_gb": max(held) / 1e9 if held else None,
        **named("ours_times", times if turns is not known else None),
    }


def train(plan: Plan, python: str) -> tuple[dict[str, Any], list[dict[str, Any]], list[str]]:
    """What is to be known of the measurement, its rows, and its notes."""
    about = {**circumstances("benchmarks.train", DTYPE), "plan": asdict(plan)}
    notes: list[str] = []
    with ExitStack() as opened:
        scratch = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="rest_jax-")))
        model = model_of(plan.model, DTYPE)
        write(model, scratch / "model")
        work = work_of(plan, model.config, model.codec, scratch / "model")
        del model  # each contender has the memory for itself, but for what it needs
        contenders = {name: ours(variant, work) for name, variant in VARIANTS.items()}
        try:
            worker = opened.enter_context(Worker(WORKER, python, work.weights, DTYPE, scratch / "torch.log"))
            contenders |= {name: theirs(worker, name, work) for name in worker.about["engines"]}
            about["hf"] = worker.about
        except Absent as why:
            notes.append(f"no rows of Hugging Face ({why}): pip install 'rest_jax[reference]', or --torch PYTHON")
        rows, checked = measure(contenders, work, plan.repeats)
    return about, rows, [checked, *notes]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="two minutes: short rows, few repeats")
    parser.add_argument("--model", help=f"a model's name or folder, or a shape: {', '.join(SHAPES)} (random weights)")
    for name in ("rows", "length", "repeats"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--torch", default=sys.executable, metavar="PYTHON", help="a Python that has torch")
    options = parser.parse_args(arguments)
    plan = QUICK if options.quick else Plan()
    plan = replace(plan, **{name: value for name in asdict(plan) if (value := getattr(options, name)) is not None})
    try:
        keep_compiled(cache_folder() / "compiled")
        about, rows, notes = train(plan, options.torch)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    publish(options.json, about, rows, notes)
    show(f"{plan.model}, {DTYPE}, {about['device']}, {about['cores']} cores", COLUMNS, rows, [LEGEND, *notes])
    return 0


if __name__ == "__main__":
    start_in_huge_pages()  # as `rest-jax run` does
    sys.exit(main())
