"""A whole run: the loop for every seed, the floors, the summary and the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rest_jax.config.loader import Loaded, load
from rest_jax.config.settings import RestConfig
from rest_jax.core.errors import UserError
from rest_jax.core.events import Listener, notice
from rest_jax.models import catalog, tokenizer
from rest_jax.recipes import floors, plan
from rest_jax.recipes.calibrate import measured_rates
from rest_jax.recipes.report import write_run_report
from rest_jax.recipes.rest import Loop
from rest_jax.recipes.stages import Done, finished_stages, open_run, write_json
from rest_jax.recipes.summary import Measured, summarise
from rest_jax.recipes.workbench import Workbench, open_workbench, tokens_per_trajectory
from rest_jax.tasks.registry import task as open_task
from rest_jax.tasks.splits import Reader
from rest_jax.tasks.task import Task

SUMMARY = "summary.json"
REPORT = "report.html"


def run(loaded: Loaded[RestConfig], run_dir: Path, *, offline: bool, emit: Listener) -> dict[str, Any]:
    """Do what is left of a run and return its summary (also written to summary.json, with report.html beside it).

    Raises UserError for whatever the user can mend; what was done until then is kept, and repeating goes on there.
    """
    config = loaded.value
    with open_run(run_dir, loaded.text, loaded.digest, emit) as folder:
        task = open_task(config.task, run_dir / "data")
        with open_workbench(
            task,
            model=config.model,
            agent_settings=config.agent,
            engine=config.engine,
            tools=config.tools,
            emit=folder.emit,
            offline=offline,
            log=run_dir / "tools.log",
        ) as bench:
            announce(config, bench, folder.emit)
            shared = Loop(config, config.seeds[0], folder, bench)
            measured = [shared.measured("prompted", "prompted", bench.base, config.evaluate.prompted)]
            for seed in config.seeds:
                measured += Loop(config, seed, folder, bench)()
            measured += _floors(config, shared, bench)
            summary = summarise(
                measured,
                title=f"{config.name}: {task.name}, {config.model.name}",
                task=task.name,
                split=config.evaluate.split,
                against=("pilot", *(m.name for m in measured if m.name[:2] in ("A ", "B ", "C ", "D "))),
                notes=notes(config, bench),
            )
        write_json(run_dir / SUMMARY, summary)
        _write_report(run_dir, summary, loaded.text, folder.stages, task)
    return summary


def report_again(run_dir: Path) -> Path:
    """Write a finished run's report.html again; returns its path. UserError when the run has not finished."""
    stages = finished_stages(run_dir)
    file = run_dir / SUMMARY
    if not file.is_file():
        raise UserError(f"{run_dir}: the run has not finished (no {SUMMARY}); repeat `rest-jax run` first")
    config = load(run_dir / "config.yaml", RestConfig)
    task = open_task(config.value.task, run_dir / "data")
    _write_report(run_dir, json.loads(file.read_text(encoding="utf-8")), config.text, stages, task)
    return run_dir / REPORT


def _write_report(run_dir: Path, summary: dict[str, Any], config: str, stages: Sequence[Done], task: Task) -> None:
    gold = {question.id: question.answer for split in task.splits.values() for question in split}
    write_run_report(run_dir / REPORT, summary, config, stages, gold)


def dry_run(config: RestConfig, *, offline: bool = False) -> list[str]:
    """What a run would do, stage by stage, without doing it: the settings, the task and the model are checked."""
    task = open_task(config.task)
    codec = tokenizer.load(catalog.resolve(config.model.name, offline=offline))
    work = plan.plan(config, tokens_per_trajectory(task, codec, config.agent.name))
    return [
        f"{w.name:32} {w.trajectories:6} trajectories {w.sampled_tokens / 1000:7.0f}k sampled "
        f"{w.trained_tokens / 1000:7.0f}k trained tokens"
        for w in (*work, plan.total(work))
    ]


def announce(config: RestConfig, bench: Workbench, emit: Listener) -> None:
    """Say, before the work begins, what it will be and how long it will take here."""
    work = plan.plan(config, tokens_per_trajectory(bench.task, bench.engine.codec, config.agent.name))
    whole = plan.total(work)
    rates = measured_rates(bench.engine)
    notice(
        emit,
        f"{whole.trajectories} trajectories, about {whole.sampled_tokens / 1000:.0f}k sampled and "
        f"{whole.trained_tokens / 1000:.0f}k trained tokens; at {rates.sampled:.0f} and {rates.trained:.0f} tokens/s "
        f"here about {plan.seconds(whole, rates) / 60:.0f} min",
    )


def notes(config: RestConfig, bench: Workbench) -> list[str]:
    """What a reader has to know beside the numbers."""
    corpus = bench.task.digests()["corpus"]
    return [
        f"{bench.task.name}, split {config.evaluate.split}, greedy; intervals: 95 % bootstrap over questions; "
        f"seeds {', '.join(map(str, config.seeds))}",
        f"corpus {corpus[:12]}, retriever BM25 (k1 {config.tools.k1:g}, b {config.tools.b:g}), "
        f"{config.tools.results} passage(s) a search",
        *(f"{name}: {note}" for name, note in bench.task.notes.items()),
    ]


def _floors(config: RestConfig, loop: Loop, bench: Workbench) -> list[Measured]:
    rows = []
    ev = config.evaluate
    for floor in ev.floors:
        if floor == "most_frequent":
            asked = bench.task.questions(ev.split, Reader.EVALUATION)[: ev.final]
            train = bench.task.questions("train", Reader.EVALUATION)
            records = floors.most_frequent(train, asked, bench.task.score)
            rows.append(Measured("most frequent answer", records, "", 0.0))
        else:
            rows.append(loop.measured(f"floor-{floor}", floors.PLAYED[floor], bench.base, ev.final, method=floor))
    return rows
