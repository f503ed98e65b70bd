"""How fast tokens are made: our engine beside Hugging Face transformers on the same weights, prompts and lengths.

    python -m benchmarks.decode --json OUT [--quick] [--model NAME] [--batches N ...] [--contexts N ...] [--torch PY]

Before anything is timed, 64 greedy tokens in f32 must be torch's. Then, for each batch and context, the engines take
turns: each makes replies of two forced lengths to fresh random prompts. The difference of the two is the decode rate,
what is left is the time to the first token, and `total_s` is the time of the longer one. `context` counts all that a
row holds in the end. Warm-up and compilation are reported apart. `roofline` is the share of what two measured ceilings
of this device allow (`benchmarks.roofline`). A rival that does not run here has no rows, and a note says why.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax

from benchmarks.hf import Absent, HuggingFace
from benchmarks.measure import Spread, circumstances, interleaved, named, publish, show
from benchmarks.models import SHAPES, endless, prompts, replies, write
from benchmarks.roofline import Ceilings, ceilings
from rest_jax.config.overrides import overridden
from rest_jax.config.settings import EngineSettings
from rest_jax.core.cache import cache_folder
from rest_jax.core.errors import UserError
from rest_jax.distributed.compilation import keep_compiled
from rest_jax.models.checkpoint import Model
from rest_jax.models.dtypes import compute_dtype
from rest_jax.sampling.engine import Engine

OURS = "rest_jax"
COLUMNS = {
    "engine": "engine",
    "batch": "batch",
    "context": "context",
    "prefill": "prefill_tok_s",
    "decode": "decode_tok_s",
    "roofline": "roofline",
    "total s": "total_s",
    "least": "total_s_least",
    "most": "total_s_most",
    "× decode": "ours_decode_times",
    "× total": "ours_total_times",
}
LEGEND = "prefill, decode: tokens/s; ×: how many times as fast rest_jax is; –: lost in the noise"
CHECKED_PROMPTS, CHECKED_PROMPT_TOKENS, CHECKED_TOKENS = 4, 32, 64
TIE = 1e-3
"""Where torch's two best logits are nearer than this, either may be taken: sums in another order decide."""


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    model: str
    batches: tuple[int, ...]
    contexts: tuple[int, ...]
    short: int = 16
    long: int = 64
    """Tokens of the two replies."""
    repeats: int = 5


PLANS = {
    "cpu": Plan("smollm2-135m-instruct-q4_1", (1, 8, 32, 64), (128,)),
    "gpu": Plan("llama-3.2-1b", (64, 128, 256), (1024, 2048), short=32, long=160),
}
QUICK = {
    "cpu": replace(PLANS["cpu"], batches=(4,), contexts=(64,), short=8, long=24, repeats=3),
    "gpu": replace(PLANS["gpu"], batches=(64,), contexts=(1024,), repeats=3),
}


@dataclass(frozen=True)
class Timed:
    """Seconds of one engine's short and long replies in one repeat, and what they were."""

    short_s: float
    long_s: float


@dataclass(frozen=True)
class Cell:
    """One batch and context of a plan."""

    batch: int
    context: int
    plan: Plan

    @property
    def prompt(self) -> int:
        """Tokens of each prompt."""
        return self.context - self.plan.long

    def prompts(self, repeat: int, tokens: int, vocab: int) -> list[tuple[int, ...]]:
        """Fresh prompts for each repeat and length, the same for every engine."""
        return prompts((repeat, tokens, self.batch), self.batch, self.prompt, vocab)

    def step_s(self, timed: Timed) -> float:
        """Seconds of one decode step."""
        return (timed.long_s - timed.short_s) / (self.plan.long - self.plan.short)

    def first_token_s(self, timed: Timed) -> float:
        """Seconds until the first token is there."""
        return timed.short_s - (self.plan.short - 1) * self.step_s(timed)


def settings_for(batch: int, context: int, base: EngineSettings) -> EngineSettings:
    """The engine's settings for so many rows, and one cache width that holds the context."""
    width = -(-context // base.chunk) * base.chunk
    return replace(base, rows=batch, widths=(width,), extend_rows=min(base.extend_rows, batch))


def check(model: Model, base: EngineSettings, hf: HuggingFace) -> str:
    """A sentence on how far our greedy tokens are torch's, f32. RuntimeError when they differ without a tie."""
    context = CHECKED_PROMPT_TOKENS + CHECKED_TOKENS
    asked = prompts((0,), CHECKED_PROMPTS, CHECKED_PROMPT_TOKENS, model.config.vocab)
    # Else a GPU would multiply f32 matrices in TF32.
    with jax.default_matmul_precision("highest"):
        engine = Engine(model, settings_for(CHECKED_PROMPTS, context, base), dtype="float32")
        ours = replies(engine, asked, CHECKED_TOKENS)
    theirs = hf.generate("hf-dynamic", asked, CHECKED_TOKENS, context=context, gaps=True)
    same = 0
    for said, reference, gaps in zip(ours, theirs.ids, theirs.gaps, strict=True):
        parted = next((at for at, pair in enumerate(zip(said, reference, strict=True)) if pair[0] != pair[1]), None)
        if parted is not None and gaps[parted] > TIE:
            raise RuntimeError(f"our greedy tokens are not torch's: token {parted}, where its logits are no tie")
        same += CHECKED_TOKENS if parted is None else parted
    every = CHECKED_PROMPTS * CHECKED_TOKENS
    return f"checked first: {same} of {every} greedy tokens are torch's in f32" + (
        "" if same == every else f"; the others follow a tie (two logits within {TIE:g})"
    )


def measure(
    model: Model, dtype: str, cell: Cell, base: EngineSettings, hf: HuggingFace | None, limits: Ceilings
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of a cell, and a note for each engine that does not run."""
    engine = Engine(model, settings_for(cell.batch, cell.context, base), dtype=dtype)

    def ours(asked: list[tuple[int, ...]], tokens: int) -> float:
        began = time.perf_counter()
        replies(engine, asked, tokens)
        return time.perf_counter() - began

    def theirs(hf: HuggingFace, name: str, asked: list[tuple[int, ...]], tokens: int) -> float:
        return hf.generate(name, asked, tokens, context=cell.context).seconds

    def timed(seconds: Callable[[list[tuple[int, ...]], int], float], repeat: int) -> Timed:
        lengths = (cell.plan.short, cell.plan.long)
        return Timed(*(seconds(cell.prompts(repeat, tokens, model.config.vocab), tokens) for tokens in lengths))

    contenders = {OURS: partial(timed, ours)}
    if hf is not None:
        contenders |= {name: partial(timed, partial(theirs, hf, name)) for name in hf.about["engines"]}
    what = f"batch {cell.batch}, context {cell.context}"
    absent: dict[str, str] = {}

    def present(name: str, repeat: int) -> Timed | None:
        """None from the first time on that a contender does not run: it loses its row, the others keep theirs."""
        if name not in absent:
            try:
                return contenders[name](repeat)
            except Absent as why:
                absent[name] = f"{what}: {why}"
        return None

    warm_up_s: dict[str, float] = {}
    for name in contenders:
        began = time.perf_counter()
        present(name, cell.plan.repeats)
        warm_up_s[name] = time.perf_counter() - began
    results = interleaved({name: partial(present, name) for name in contenders}, cell.plan.repeats, what)
    taken = {name: [timed for timed in some if timed] for name, some in results.items() if name not in absent}
    ceiling = limits.decode_tok_s(model.config, dtype, cell.batch, cell.prompt + (cell.plan.short + cell.plan.long) / 2)
    rows = [
        _row(name, cell, taken[name], taken[OURS], ceiling)
        | {"model": model.name, "dtype": dtype, "warm_up_s": warm_up_s[name]}
        for name in taken
    ]
    return rows, list(absent.values())


def _row(name: str, cell: Cell, timed: Sequence[Timed], ours: Sequence[Timed], ceiling: float) -> dict[str, Any]:
    pairs = list(zip(timed, ours, strict=True))
    prefill = rates(cell.batch * cell.prompt, [cell.first_token_s(one) for one in timed])
    decode = rates(cell.batch, [cell.step_s(one) for one in timed])
    total = Spread.of([one.long_s for one in timed])
    decode_times = rates(1, [cell.step_s(our) / cell.step_s(one) for one, our in pairs])
    total_times = rates(1, [our.long_s / one.long_s for one, our in pairs])
    return {
        "engine": name,
        "batch": cell.batch,
        "context": cell.context,
        "prompt": cell.prompt,
        "repeats": len(timed),
        **named("prefill_tok_s", prefill),
        **named("decode_tok_s", decode),
        **named("total_s", total),
        "roofline": decode and decode.median / ceiling,
        "ours_decode_times": decode_times and decode_times.median if name != OURS else None,
        "ours_total_times": total_times and total_times.median if name != OURS else None,
    }


def rates(amount: float, seconds: Sequence[float]) -> Spread | None:
    """Amount per second; None where noise ate more than half of the measurements."""
    rates = [amount / some for some in seconds if some > 0]
    return Spread.of(rates) if 2 * len(rates) > len(seconds) else None


Published = tuple[dict[str, Any], list[dict[str, Any]], list[str]]
"""What is to be known of a measurement, its rows, and its notes."""


def decode(plan: Plan, *, dtype: str, base: EngineSettings, python: str) -> Iterator[Published]:
    """What has been measured so far, after each cell. UserError when a reply would end within a block."""
    if plan.short % base.block or plan.long % base.block:
        raise UserError(
            f"block {base.block} does not divide the replies' {plan.short} and {plan.long} tokens, so their difference "
            f"would not be that many steps; set one that does"
        )
    about: dict[str, Any] = {
        **circumstances("benchmarks.decode", dtype),
        "plan": asdict(plan),
        "engine": asdict(base),
    }
    model = endless(plan.model, dtype)
    limits = ceilings(dtype)
    about |= {"copy_bytes_per_s": limits.bytes_per_s, "matmul_flops_per_s": limits.flops_per_s}
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    with ExitStack() as opened:
        scratch = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="rest_jax-")))
        write(model, scratch / "model")

        def started(wanted: str) -> HuggingFace:
            return HuggingFace(python, scratch / "model", wanted, scratch / f"{wanted}.log")

        hf = None
        try:
            with started("float32") as checker:
                notes.append(check(model, base, checker))
            hf = opened.enter_context(started(dtype))
            about["hf"] = hf.about
        except Absent as why:
            notes.append(f"no rows of Hugging Face ({why}): pip install 'rest_jax[reference]', or --torch PYTHON")
        for context in plan.contexts:
            for batch in plan.batches:
                more, why_not = measure(model, dtype, Cell(batch, context, plan), base, hf, limits)
                rows += more
                notes += why_not
                yield about, rows, notes


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="two minutes: small batches, a short context, few repeats")
    parser.add_argument("--model", help=f"a model's name or folder, or a shape: {', '.join(SHAPES)} (random weights)")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--batches", type=int, nargs="+")
    parser.add_argument("--contexts", type=int, nargs="+")
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--torch", default=sys.executable, metavar="PYTHON", help="a Python that has torch")
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="of the engine: block=16")
    options = parser.parse_args(arguments)
    # Two processes share a GPU here: neither may take all of its memory at its start.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    platform = "cpu" if jax.default_backend() == "cpu" else "gpu"
    plan = (QUICK if options.quick else PLANS)[platform]
    plan = replace(
        plan,
        model=options.model or plan.model,
        batches=tuple(options.batches or plan.batches),
        contexts=tuple(options.contexts or plan.contexts),
        repeats=options.repeats or plan.repeats,
    )
    try:
        if min(plan.contexts) <= plan.long:
            raise UserError(f"--contexts: {min(plan.contexts)} leaves no prompt before {plan.long} tokens; take more")
        keep_compiled(cache_folder() / "compiled")
        base = overridden(EngineSettings(), options.overrides)
        about, rows, notes = {}, [], []
        for about, rows, notes in decode(
            plan, dtype=compute_dtype(options.dtype).name, base=base, python=options.torch
        ):
            publish(options.json, about, rows, notes)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    show(f"{plan.model}, {about['dtype']}, {about['device']}, {about['cores']} cores", COLUMNS, rows, [LEGEND, *notes])
    return 0


if __name__ == "__main__":
    sys.exit(main())
