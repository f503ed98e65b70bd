"""What `benchmarks.questions` measures under one set of XLA's flags, in a process of its own: they are read once.

python -m benchmarks.probes --json OUT --flags NAME --ask QUESTION [--ask …] [--quick] [--shape NAME] [--dtype …]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import attention, decode
from benchmarks.measure import Spread, chained, circumstances, named, publish
from benchmarks.models import SHAPES, random_model
from benchmarks.roofline import Ceilings, ceilings
from rest_jax.config.settings import EngineSettings
from rest_jax.models.config import ModelConfig
from rest_jax.models.dtypes import compute_dtype


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    shape: str = "llama-3.2-1b"
    batches: tuple[int, ...] = (64, 128, 256)
    contexts: tuple[int, ...] = (1024, 2048)
    caches: int = 4
    """Layers whose caches one call attends to in turn, so that none is found in a GPU's own cache again."""
    products: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    """Rows of the left matrix."""
    weights: int = 2**28
    """Bytes of different right matrices that one call multiplies with."""
    batch: int = 128
    context: int = 1024
    """Of decoding."""
    blocks: tuple[int, ...] = (8, 32)
    short: int = 32
    long: int = 160
    """Tokens of the two replies whose difference is the decode rate."""
    chain: tuple[int, int] = (32, 288)
    """Kernels, or turns of a loop; the difference is what is told."""
    calls: int = 10
    repeats: int = 5
    sizes: tuple[int, int] | None = None
    """Of the ceilings' copy and product."""


TINY = Plan(
    shape="tiny",
    batches=(2,),
    contexts=(64,),
    caches=1,
    products=(1, 4),
    weights=2**16,
    batch=2,
    context=96,
    blocks=(4,),
    short=8,
    long=16,
    chain=(2, 6),
    calls=1,
    repeats=2,
    sizes=(2**20, 64),
)
QUICK = replace(Plan(), batches=(64,), contexts=(1024,), products=(1, 16, 128), blocks=(8,), repeats=3)


@dataclass(frozen=True)
class Probe:
    """What every question is asked of."""

    plan: Plan
    config: ModelConfig
    dtype: str
    limits: Ceilings
    note: Callable[[str], None]
    """Told what does not run here, and why."""

    def row(self, what: str, seconds: Spread | None, floor_s: float | None = None, **more: Any) -> dict[str, Any]:
        """Seconds of one of whatever it is; `of_ceiling` is the least seconds possible over them."""
        share = floor_s / seconds.median if seconds and floor_s else None
        return {"what": what, **named("seconds", seconds), "of_ceiling": share, **more}


def attend(probe: Probe) -> Iterator[dict[str, Any]]:
    """Seconds of one layer's attention for one token of each row: rows full, and half full."""
    plan = probe.plan
    for context in plan.contexts:
        for batch in plan.batches:
            for name, kernel in attention.kernels(batch, context).items():
                try:
                    yield from _attended(probe, name, kernel, batch, context)
                except Exception as error:  # a kernel that a device or a version has not leaves the others their rows
                    told = str(error).strip().partition("\n")[0]
                    probe.note(f"attention: {name} does not run here: {type(error).__name__}: {told[:200]}")


def _attended(probe: Probe, name: str, kernel: attention.Kernel, batch: int, context: int) -> Iterator[dict[str, Any]]:
    made = [attention.cached(probe.config, batch, context, probe.dtype, seed) for seed in range(probe.plan.caches)]
    q_bnh = made[0][0]
    laid = [(jax.jit(kernel.keys)(k_bksh), jax.jit(kernel.values)(v_bksh)) for _, k_bksh, v_bksh in made]

    @jax.jit
    def all_layers(q_bnh: jax.Array, laid: Any, length_b: jax.Array) -> jax.Array:
        for keys, values in laid:
            q_bnh = kernel.attend(q_bnh, keys, values, length_b)
        return q_bnh

    for filled in (1.0, 0.5):
        length_b = jnp.full(batch, int(filled * context), jnp.int32)
        once_bnh = jax.jit(kernel.attend)(q_bnh, *laid[0], length_b)
        expected_bnh = attention.reference(*made[0], length_b)
        step = partial(lambda length_b, q_bnh: all_layers(q_bnh, laid, length_b), length_b)
        taken = chained(step, q_bnh, calls=probe.plan.calls, repeats=probe.plan.repeats)
        head_bytes = probe.config.kv_heads * probe.config.head_dim * jnp.dtype(probe.dtype).itemsize
        yield probe.row(
            name,
            _each(taken, probe.plan.caches),
            probe.limits.floor_s(2 * batch * int(filled * context) * head_bytes, 0),
            batch=batch,
            context=context,
            filled=filled,
            difference=float(jnp.max(jnp.abs(once_bnh.astype(jnp.float32) - expected_bnh))),
        )


def decode_blocks(probe: Probe) -> Iterator[dict[str, Any]]:
    """Seconds of one decode step of the whole engine, by the tokens of a block."""
    plan = probe.plan
    model = random_model(plan.shape, probe.dtype)
    for block in plan.blocks:
        lengths = decode.Plan(plan.shape, (plan.batch,), (plan.context,), plan.short, plan.long, plan.repeats)
        cell = decode.Cell(plan.batch, plan.context, lengths)
        base = replace(EngineSettings(), block=block)
        (row,), _ = decode.measure(model, probe.dtype, cell, base, None, probe.limits)
        rates = [row[f"decode_tok_s{end}"] for end in ("", "_most", "_least")]
        step = Spread(*(plan.batch / rate for rate in rates)) if all(rates) else None
        more = {"batch": plan.batch, "context": plan.context, "warm_up_s": row["warm_up_s"]}
        yield probe.row(f"a step, in blocks of {block}", step, **more) | {"of_ceiling": row["roofline"]}


def multiply(probe: Probe) -> Iterator[dict[str, Any]]:
    """Seconds of one product of few rows with a model's matrix: many different ones in a call, each read once."""
    config, itemsize = probe.config, jnp.dtype(probe.dtype).itemsize
    width, heads = config.width, config.heads * config.head_dim
    shapes = {(width, heads), (heads, width), (width, config.hidden), (config.hidden, width), (width, config.vocab)}
    for k, n in sorted(shapes):
        count = max(1, probe.plan.weights // (k * n * itemsize))
        keys = jax.random.split(jax.random.key(0), count)
        w_kn = [jax.random.normal(key, (k, n), probe.dtype) for key in keys]
        for m in probe.plan.products:
            x_mk = [jax.random.normal(key, (m, k), probe.dtype) for key in keys]
            step = partial(lambda x_mk, w_kn, _: _products(x_mk, w_kn), x_mk, w_kn)
            taken = chained(step, [], calls=probe.plan.calls, repeats=probe.plan.repeats)
            floor_s = probe.limits.floor_s((k * n + m * (k + n)) * itemsize, 2 * m * k * n)
            yield probe.row(f"× [{k}, {n}]", _each(taken, count), floor_s, batch=m)


@jax.jit
def _products(x_mk: list[jax.Array], w_kn: list[jax.Array]) -> list[jax.Array]:
    """Each with a left matrix of its own: of all that share one XLA would make a single product."""
    return [x @ w for x, w in zip(x_mk, w_kn, strict=True)]


def launch(probe: Probe) -> Iterator[dict[str, Any]]:
    """Seconds of one more kernel that does next to nothing, of one more turn of a loop, of one more call."""
    few, many = probe.plan.chain

    def kernel(x: jax.Array) -> jax.Array:
        return jax.lax.optimization_barrier(x - 1)  # else XLA would make one kernel of several

    def kernels(count: int, x: jax.Array) -> jax.Array:
        for _ in range(count):
            x = kernel(x)
        return x

    def static(count: int, x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, count, lambda _, x: kernel(x), x)

    def dynamic(count: int, x: jax.Array) -> jax.Array:
        """Whose end only the device knows, as that of decoding is when it is all rows' end (one kernel more a turn)."""
        return jax.lax.while_loop(lambda x: jnp.max(x) > 0, kernel, x)

    def taken(program: Callable[[int, jax.Array], jax.Array], count: int) -> Spread:
        compiled = jax.jit(partial(program, count))
        x = jnp.full(256, count, jnp.float32)
        return chained(lambda _: compiled(x), x, calls=probe.plan.calls, repeats=probe.plan.repeats)

    programs = {"one more kernel": kernels, "one more turn, count known": static, "one more turn, until": dynamic}
    for what, program in programs.items():
        fewer, more = taken(program, few), taken(program, many)
        ends = ((more.median, fewer.median), (more.least, fewer.most), (more.most, fewer.least))
        yield probe.row(what, Spread(*((late - early) / (many - few) for late, early in ends)))
    one = jax.jit(kernel)
    yield probe.row("one more call", chained(one, jnp.zeros(256), calls=many, repeats=probe.plan.repeats))


def _each(taken: Spread, count: int) -> Spread:
    return Spread(taken.median / count, taken.least / count, taken.most / count)


QUESTIONS: dict[str, Callable[[Probe], Iterator[dict[str, Any]]]] = {
    "attention": attend,
    "command_buffers": decode_blocks,
    "gemm": multiply,
    "launch": launch,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--flags", required=True, help="what the flags of this process are called")
    parser.add_argument("--ask", choices=QUESTIONS, action="append", required=True)
    add_plan_options(parser)
    options = parser.parse_args(arguments)
    on_cpu = jax.default_backend() == "cpu"
    plan = TINY if on_cpu else QUICK if options.quick else Plan()
    plan = replace(plan, shape=options.shape or plan.shape)
    dtype = compute_dtype(options.dtype).name
    limits = ceilings(dtype, plan.sizes)
    about = {**circumstances("benchmarks.probes", dtype), "plan": asdict(plan), **asdict(limits)}
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    probe = Probe(plan, SHAPES[plan.shape], dtype, limits, notes.append)
    for question in options.ask:
        for row in QUESTIONS[question](probe):
            rows.append({"question": question, "flags": options.flags, "batch": None, "context": None, **row})
            publish(options.json, about, rows, notes)  # what is measured stays, if time runs out
    publish(options.json, about, rows, notes)
    return 0


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    """What changes the plan, here and in `benchmarks.questions`."""
    parser.add_argument("--quick", action="store_true", help="fewer sizes and repeats; on a CPU all is tiny")
    parser.add_argument("--shape", choices=SHAPES, help="of the model (GPU: llama-3.2-1b)")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")


if __name__ == "__main__":
    sys.exit(main())
