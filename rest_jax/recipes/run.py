"""A whole run: the loop for every seed, the floors, the summary and the report."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rest_jax.agents.registry import agent
from rest_jax.config.loader import Loaded, load
from rest_jax.config.settings import RestConfig, ToolsSettings
from rest_jax.core.errors import UserError
from rest_jax.core.events import Listener, notice, to_both
from rest_jax.core.files import write_json
from rest_jax.distributed.cpu import divide_cpu
from rest_jax.models import catalog, tokenizer
from rest_jax.recipes import plan
from rest_jax.recipes.calibrate import measured_rates
from rest_jax.recipes.controls import ROWS, control, floor
from rest_jax.recipes.environment import environment
from rest_jax.recipes.report import write_run_report
from rest_jax.recipes.rest import Loop
from rest_jax.recipes.stages import SUMMARY, Done, finished_stages, open_run, read_environment
from rest_jax.recipes.summary import summarise
from rest_jax.recipes.workbench import Workbench, lengths, open_workbench
from rest_jax.reporting.metrics_file import MetricsFile
from rest_jax.tasks.registry import task as open_task
from rest_jax.tasks.splits import Reader
from rest_jax.tasks.task import Task
from rest_jax.tools.service.cassettes import read_cassette
from rest_jax.tools.settings import read_settings

REPORT = "report.html"
METRICS = "metrics.jsonl"


def run(loaded: Loaded[RestConfig], run_dir: Path, *, offline: bool, emit: Listener) -> dict[str, Any]:
    """Do what is left of a run and return its summary (also written to summary.json, with report.html beside it).

    Every metric, warning and stage end goes to metrics.jsonl as it comes.

    Raises UserError for whatever the user can mend; what was done until then is kept, and repeating goes on there.
    """
    config = loaded.value
    divide_cpu(config.engine.devices)
    here = environment(config.model.dtype)
    with (
        MetricsFile(run_dir / METRICS) as metrics,
        open_run(run_dir, loaded.text, loaded.digest, here, to_both(metrics, emit)) as folder,
    ):
        task = open_task(config.task, run_dir / "data")
        refuse_too_few(config, task)
        with open_workbench(
            task,
            model=config.model,
            agent_settings=config.agent,
            engine=config.engine,
            tools=config.tools,
            emit=folder.emit,
            offline=offline,
            log=run_dir / "tools.log",
            trains=True,
        ) as bench:
            announce(config, bench, folder.emit)
            shared = Loop(config, config.seeds[0], folder, bench)
            measured = [shared.measured("prompted", "prompted", bench.base, config.evaluate.prompted)]
            for seed in config.seeds:
                loop = Loop(config, seed, folder, bench)
                finished = loop()
                measured += [*finished.rows, *(control(loop, name, finished) for name in config.evaluate.controls)]
            measured += [floor(shared, name) for name in config.evaluate.floors]
            summary = summarise(
                measured,
                title=f"{config.name}: {task.name}, {config.model.name}",
                task=task.name,
                described=task.describe(),
                against=("pilot", *ROWS.values()),
                notes=notes(config, bench),
                warnings=folder.warnings,
            )
        write_json(run_dir / SUMMARY, summary)
        _write_report(run_dir, summary, loaded, folder.stages, task)
    return summary


def report_again(run_dir: Path) -> Path:
    """Write a finished run's report.html again; returns its path. UserError when the run has not finished."""
    stages = finished_stages(run_dir)
    file = run_dir / SUMMARY
    if not file.is_file():
        raise UserError(f"{run_dir}: the run has not finished (no {SUMMARY}); repeat `rest-jax run` first")
    loaded = load(run_dir / "config.yaml", RestConfig)
    task = open_task(loaded.value.task, run_dir / "data")
    _write_report(run_dir, json.loads(file.read_text(encoding="utf-8")), loaded, stages, task)
    return run_dir / REPORT


def _write_report(
    run_dir: Path, summary: dict[str, Any], loaded: Loaded[RestConfig], stages: Sequence[Done], task: Task
) -> None:
    environment, metrics = read_environment(run_dir), run_dir / METRICS
    write_run_report(run_dir / REPORT, summary, loaded, stages, task, environment, metrics)


def dry_run(config: RestConfig, *, offline: bool = False) -> list[str]:
    """What a run would do, stage by stage, without doing it: the settings, the task, the model and a file of tools, or
    the cassette in its place, are checked."""
    if config.tools.mode == "replay":
        read_cassette(Path(config.tools.cassette or ""))
    elif config.tools.config is not None:
        read_settings(Path(config.tools.config))
    task = open_task(config.task)
    refuse_too_few(config, task)
    codec = tokenizer.load(catalog.resolve(config.model.name, offline=offline))
    work = plan.plan(config, lengths(task, codec, config.agent))
    return [
        f"{w.name:32} {w.trajectories:6} trajectories {w.sampled_tokens / 1000:7.0f}k sampled "
        f"{w.prefilled_tokens / 1000:7.0f}k prefilled {w.trained_tokens / 1000:7.0f}k trained tokens"
        for w in (*work, plan.total(work))
    ]


def refuse_too_few(config: RestConfig, task: Task) -> None:
    """Raise UserError when a task has not all that a run will ask of it: at its start rather than hours later."""
    ev = config.evaluate
    task.reward(config.task.reward)
    for generation in config.generations:
        task.questions("train", Reader.TRAINING, generation.grow.questions)
    between = ev.generations if len(config.generations) > 1 else 1
    task.questions(ev.split, Reader.EVALUATION, max(ev.prompted, ev.pilot, between, ev.final))
    if ev.gate:
        task.questions("select", Reader.SELECTION, ev.gate)
    task.demonstrations(config.pilot.source, config.pilot.demonstrations, config.seeds[0])
    task.shots(0 if config.agent.bare else config.agent.shots)
    task.reads.drain()  # counted, not read


def announce(config: RestConfig, bench: Workbench, emit: Listener) -> None:
    """Say, before the work begins, what it is about, what it will be, and what it will take here: memory and time."""
    for line in (*about(bench.task), bench.memory.line(config.engine)):
        notice(emit, line)
    work = plan.plan(config, lengths(bench.task, bench.engine.codec, config.agent))
    whole = plan.total(work)
    prompt = bench.prompt(agent(config.agent.name), bare=True)
    for sharing in {False, bench.engine.shares}:
        bench.compile(prompt, sharing=sharing)
    rates = measured_rates(bench.engine)
    notice(
        emit,
        f"the whole run, what is done already included: {whole.trajectories} trajectories, about "
        f"{whole.sampled_tokens / 1000:.0f}k sampled, {whole.prefilled_tokens / 1000:.0f}k prefilled and "
        f"{whole.trained_tokens / 1000:.0f}k trained tokens; at {rates.sampled:.0f}, {rates.prefilled:.0f} and "
        f"{rates.trained:.0f} tokens/s here about {math.ceil(plan.seconds(work, rates) / 60)} min",
    )


def about(task: Task) -> list[str]:
    """What the task says of itself, in lines: each split with its difficulty, demonstrations, and its notes."""
    described = task.describe()
    splits = [
        f"{task.name} {split}: {entry['questions']} questions ({_counts(entry['levels'])})"
        for split, entry in described["splits"].items()
    ]
    said = {"demonstrations": described["demonstrations"], **described["notes"]}
    return [*splits, *(f"{name.replace('_', ' ')}: {_counts(note)}" for name, note in said.items() if note != {})]


def about_search(task: Task, tools: ToolsSettings) -> str:
    """What is searched, and how, in a line."""
    if tools.config is not None:
        return f"tools of {tools.config}"
    return (
        f"corpus {task.digests()['corpus'][:12]}, retriever BM25 (k1 {tools.k1:g}, b {tools.b:g}), {tools.results} "
        f"passage(s) a search"
    )


def _counts(entry: Any) -> str:
    if not isinstance(entry, Mapping):
        return str(entry)
    return ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in entry.items())


def notes(config: RestConfig, bench: Workbench) -> list[str]:
    """What a reader has to know beside the numbers."""
    return [
        f"{bench.task.name}, split {config.evaluate.split}, greedy; intervals: 95 % bootstrap over questions; "
        f"seeds {', '.join(map(str, config.seeds))}",
        about_search(bench.task, config.tools),
        *about(bench.task),
    ]
