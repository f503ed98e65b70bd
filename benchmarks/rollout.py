"""Trajectories per minute while tools are slow: our runner beside the plainer loops, over one jitted model.

    python -m benchmarks.rollout --json OUT [--quick] [--shape NAME] [--rows N] [--resident N] [--samples N]
                                       [--set key=value]

    S0  one trajectory at a time, on one row; each turn computes its whole context anew
    S1  a batch of rows, turn by turn, tools waited for; each turn computes its whole context anew
    S2  the same, the context kept
    S3  the runner: more trajectories resident than rows; a row whose agent waits is given to another
    S4  the same, the worked examples computed and kept once for all rows

All play the real ReAct agent on Atlas with two worked examples against a real tool adapter, whose calls take 0, 0.3, 1
and 3 times `turn_s`: the time of one turn of a full batch in S2 with tools that answer at once. The model is random,
its words are scripted, its replies have a fixed length. The systems take turns; each begins with nothing cached.

    hiding_efficiency      the time without latency over the time with it
    prefill_amplification  prefilled tokens over those that the model did not write, common beginnings counted once
    device_idle            the share of a run in which the device computes nothing: it waits for tools, or for the host.
                           At least this much: the device's seconds are those of one more run in which every program is
                           waited for (`benchmarks.device_time`), their dispatch included; 0 where they fill the run
    outside_engine         the share of a run outside of `Engine.step`: tools waited for, agents, transcripts
    of_decode_rate         sampled tokens per second over those of full rows that do nothing but decode

Then `methods`: every agent that comes along, but for those that write programs, plays as many trajectories as are
resident on S3 and on S4, with the shape `tiny`, and its prefilled tokens are counted (`benchmarks.prefilled`). Those
that try again do so as often as they may.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import prefilled
from benchmarks.device_time import device_seconds
from benchmarks.ladder import Script, Trajectories, by_the_runner, in_lockstep, script, unique_tokens
from benchmarks.late_tools import SETTINGS, SetLatency, late_adapter
from benchmarks.measure import Spread, circumstances, interleaved, publish, show
from benchmarks.models import SHAPES, prompts, random_model, replies
from rest_jax.agents.registry import agent
from rest_jax.config.overrides import overridden
from rest_jax.config.settings import EngineSettings, TaskSettings
from rest_jax.core.cache import cache_folder
from rest_jax.core.errors import UserError
from rest_jax.distributed.compilation import keep_compiled
from rest_jax.models.checkpoint import Model
from rest_jax.models.dtypes import compute_dtype
from rest_jax.recipes.workbench import beginnings
from rest_jax.sampling.engine import Engine
from rest_jax.sampling.programs import compile_all
from rest_jax.tasks.registry import task
from rest_jax.tools.client import ToolClient

LATENCIES = (0.0, 0.3, 1.0, 3.0)
"""Of a tool call, in turns."""
WIDTH = 768
"""Cached tokens of a row: the prompt and all turns of a trajectory fit in."""
Cell = tuple[str, float]
"""A system, and a latency in turns."""
DECODING = "pure decoding"
COLUMNS = {
    "system": "system",
    "latency s": "latency_s",
    "traj/min": "trajectories_per_minute",
    "seconds": "seconds",
    "least": "seconds_least",
    "most": "seconds_most",
    "prefill ×": "prefill_amplification",
    "idle": "device_idle",
    "outside": "outside_engine",
    "hiding": "hiding_efficiency",
    "of decode": "of_decode_rate",
    "× S0": "times_s0",
}


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    shape: str = "small"
    rows: int = 16
    resident: int = 80
    turns: int = 4
    turn_tokens: int = 48
    repeats: int = 3
    rounds: int = 2
    """How many batches S1 and S2 make, and how often S3 fills its residents."""
    samples: int = 1
    """Trajectories of each question."""


QUICK = Plan(rows=8, resident=40, turns=3, turn_tokens=32, repeats=1, rounds=1)


@dataclass(frozen=True)
class Run:
    """One system at one latency: what it made, how long it took, and what its engine did."""

    trajectories: int
    seconds: float
    engine_seconds: float
    """In `Engine.step`."""
    prefilled: int
    unique: int
    decoded: int


@dataclass(frozen=True)
class System:
    """A way to make trajectories, with the engine that it uses."""

    engine: Engine
    make: Callable[[], Trajectories]

    def run(self, model: Model) -> Run:
        self.engine.load(model.params, model.weights_digest)  # forgets what is cached
        before = replace(self.engine.stats)
        began = time.perf_counter()
        made = self.make()
        seconds = time.perf_counter() - began
        did = self.engine.stats.since(before)
        return Run(
            trajectories=len(made),
            seconds=seconds,
            engine_seconds=did.seconds,
            prefilled=did.prefilled,
            unique=unique_tokens(made),
            decoded=did.decoded,
        )


def systems(plan: Plan, model: Model, base: EngineSettings, tools: ToolClient, played: Script) -> dict[str, System]:
    """The ladder. S0 has an engine of one row, S1 and S2 share one of `rows`; S3 and S4 have more residents on as
    many."""
    alone = Engine(model, replace(base, rows=1, extend_rows=1))
    batched = Engine(model, replace(base, rows=plan.rows))
    batches = played.jobs[: plan.rounds * plan.rows]
    loop = partial(in_lockstep, script=played, tools=tools)
    return {
        "S0": System(alone, partial(loop, alone, jobs=played.jobs[: plan.rounds], at_once=1, keep=False)),
        "S1": System(batched, partial(loop, batched, jobs=batches, at_once=plan.rows, keep=False)),
        "S2": System(batched, partial(loop, batched, jobs=batches, at_once=plan.rows, keep=True)),
        "S3": oversubscribed(plan, model, base, tools, played),
        "S4": oversubscribed(plan, model, sharing(base, played, model), tools, played),
    }


def sharing(base: EngineSettings, played: Script, model: Model) -> EngineSettings:
    """Settings with room for the worked examples, and that much less in each row."""
    (beginning,) = beginnings(played.prompt, model.codec)
    whole_chunks = len(beginning) // base.chunk * base.chunk
    return replace(base, shared=len(beginning), widths=tuple(width - whole_chunks for width in base.widths))


def oversubscribed(
    plan: Plan, model: Model, base: EngineSettings, tools: ToolClient, played: Script, *, time_copies: bool = False
) -> System:
    """S3, or S4 where there is room for what is shared. `time_copies` waits for each copy of a row, to tell what they
    cost."""
    engine = Engine(model, replace(base, rows=plan.rows, resident=plan.resident), time_copies=time_copies)
    shared = beginnings(played.prompt, model.codec)
    engine.share(shared)  # for the warm-up; each run computes it again

    def make() -> Trajectories:
        engine.share(shared)
        return by_the_runner(engine, played, played.jobs[: plan.rounds * plan.resident], tools)

    return System(engine, make)


def decode_rate(engine: Engine, rows: int, vocab: int, repeat: int) -> float:
    """Tokens per second of full rows that do nothing but decode: what a longer reply takes beyond a shorter one."""
    short, long = 16, 80

    def taken(tokens: int) -> float:
        began = time.perf_counter()
        replies(engine, prompts((repeat, tokens), rows, 16, vocab), tokens)
        return time.perf_counter() - began

    return rows * (long - short) / (taken(long) - taken(short))


def ladder(
    plan: Plan, model: Model, base: EngineSettings, tools: ToolClient, set_latency: SetLatency, played: Script
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows, and what is to be said beside them."""
    steps = systems(plan, model, base, tools, played)
    for system in steps.values():
        compile_all(system.engine.programs([played.prompt.stop], sharing=system.engine.shares))
        system.run(model)  # what is compiled when first used, and the tools' connections
    decoding = partial(decode_rate, steps["S2"].engine, plan.rows, model.config.vocab)
    decoding(plan.repeats)
    turn_s = Spread.of([steps["S2"].run(model).seconds for _ in range(3)]).median / (plan.rounds * plan.turns)

    def at(latency: float, system: System, repeat: int) -> Run:
        set_latency(latency * turn_s)
        return system.run(model)

    def worked_at(latency: float, system: System, repeat: int) -> float:
        with device_seconds() as worked:
            at(latency, system, repeat)
        return worked.total()

    both = [(name, latency) for latency in LATENCIES for name in steps]
    cells: dict[Any, Callable[[int], Any]] = {DECODING: decoding}
    cells |= {(name, latency): partial(at, latency, steps[name]) for name, latency in both}
    runs = interleaved(cells, plan.repeats, f"{len(cells)} runs")
    rate = Spread.of(runs.pop(DECODING)).median
    waiting = {(name, latency): partial(worked_at, latency, steps[name]) for name, latency in both}
    worked = {cell: taken for cell, (taken,) in interleaved(waiting, 1, "the device's own time").items()}
    timed = oversubscribed(plan, model, base, tools, played, time_copies=True)
    set_latency(turn_s)
    seconds, did = timed.run(model).seconds, timed.engine.stats
    notes = [
        f"{DECODING}: {rate:,.0f} tokens/s with {plan.rows} rows",
        f"S3 at one turn's latency, waiting for every copy of a row: {did.parks} parked, {did.unparks} put back, "
        f"{did.copies} copied to others, {did.copied_bytes / 1e6:,.0f} MB, {did.copy_seconds:.2f} of {seconds:.2f} s",
    ]
    return table(runs, worked, turn_s, rate), notes


def table(
    runs: Mapping[Cell, Sequence[Run]], worked: Mapping[Cell, float], turn_s: float, rate: float
) -> list[dict[str, Any]]:
    """A row for each system and latency from their runs. `worked`: the device's seconds; `rate`: tokens per second of
    pure decoding."""
    seconds = {cell: Spread.of([run.seconds for run in some]) for cell, some in runs.items()}
    per_minute = {cell: 60 * some[0].trajectories / seconds[cell].median for cell, some in runs.items()}
    return [
        {
            "system": name,
            "latency_s": latency * turn_s,
            "latency_turns": latency,
            "turn_s": turn_s,
            "trajectories": some[0].trajectories,
            "repeats": len(some),
            "seconds": seconds[name, latency].median,
            "seconds_least": seconds[name, latency].least,
            "seconds_most": seconds[name, latency].most,
            "trajectories_per_minute": per_minute[name, latency],
            "prefill_amplification": some[0].prefilled / some[0].unique,
            "device_s": worked[name, latency],
            "device_idle": max(0.0, 1 - worked[name, latency] / seconds[name, latency].median),
            "outside_engine": Spread.of([1 - run.engine_seconds / run.seconds for run in some]).median,
            "hiding_efficiency": seconds[name, 0.0].median / seconds[name, latency].median,
            "of_decode_rate": some[0].decoded / seconds[name, latency].median / rate,
            "times_s0": per_minute[name, latency] / per_minute["S0", latency],
        }
        for (name, latency), some in runs.items()
    ]


def measure(plan: Plan, *, dtype: str, base: EngineSettings) -> tuple[dict[str, Any], list[dict[str, Any]], list[str]]:
    """What is to be known of the measurement (and `methods`), its rows, and its notes."""
    about = {**circumstances("benchmarks.rollout", dtype), "plan": asdict(plan), "engine": asdict(base)}
    atlas = task(TaskSettings())
    played = script(atlas, plan.turns, plan.turn_tokens, plan.rounds * plan.resident, agent("react"), plan.samples)
    model = random_model(plan.shape, dtype)
    with ExitStack() as opened:
        url, set_latency = opened.enter_context(late_adapter(atlas.corpus()))
        tools = opened.enter_context(ToolClient(url, SETTINGS))
        tools.check()
        rows, notes = ladder(plan, model, base, tools, set_latency, played)
        set_latency(0)
        resident = replace(base, rows=plan.rows, resident=plan.resident)
        methods = prefilled.by_method(plan.resident, plan.turns, resident, tools, atlas)
    return {**about, "methods": methods}, rows, notes


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="two minutes: fewer rows, shorter turns, no repeats")
    parser.add_argument("--shape", choices=SHAPES, help="of the model")
    for name in ("rows", "resident", "turns", "turn_tokens", "rounds", "samples", "repeats"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int)
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="of the engine: block=16")
    options = parser.parse_args(arguments)
    plan = QUICK if options.quick else Plan()
    plan = replace(plan, **{name: value for name in asdict(plan) if (value := getattr(options, name)) is not None})
    try:
        keep_compiled(cache_folder() / "compiled")
        base = overridden(EngineSettings(widths=(WIDTH,)), options.overrides)
        about, rows, notes = measure(plan, dtype=compute_dtype(options.dtype).name, base=base)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    publish(options.json, about, rows, notes)
    turn_s = rows[0]["turn_s"]
    show(f"shape {plan.shape}, {about['device']}, {about['cores']} cores, turn {turn_s:.3g} s", COLUMNS, rows, notes)
    show("agent methods", prefilled.COLUMNS, about["methods"], [])
    return 0


if __name__ == "__main__":
    sys.exit(main())
