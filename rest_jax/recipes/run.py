"""A whole run: the loop for every seed, the floors, the summary and the report."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rest_jax.agents.registry import agent, as_method, method_of
from rest_jax.config.loader import Loaded, load
from rest_jax.config.policies import PoliciesSettings
from rest_jax.config.settings import AgentSettings, RestConfig, ToolsSettings
from rest_jax.core.errors import UserError
from rest_jax.core.events import Listener, notice, to_both, warning
from rest_jax.core.files import write_json
from rest_jax.core.trajectory import Question
from rest_jax.distributed.cpu import divide_cpu
from rest_jax.distributed.group import WITHIN_S, Group, joined
from rest_jax.distributed.processes import COUNT, Launched, launched
from rest_jax.models import catalog, tokenizer
from rest_jax.models.checkpoint import config_of
from rest_jax.models.decoder import parameters
from rest_jax.recipes import endpoints, feedback, floors, plan, students
from rest_jax.recipes.agent_file import shrunk_of
from rest_jax.recipes.calibrate import measured_rates
from rest_jax.recipes.controls import ROWS, control, floor
from rest_jax.recipes.environment import environment
from rest_jax.recipes.loop import Loop
from rest_jax.recipes.rehearsal import bound, rehearse, work
from rest_jax.recipes.report import write_run_report
from rest_jax.recipes.rest import as_methods, rest
from rest_jax.recipes.stages import SUMMARY, Done, RunFolder, finished_stages, open_run, read_environment
from rest_jax.recipes.summary import Measured, summarise
from rest_jax.recipes.supported import supported
from rest_jax.recipes.workbench import Bench, Workbench, open_workbench, serves
from rest_jax.reporting.metrics_file import MetricsFile
from rest_jax.tasks.registry import task as open_task
from rest_jax.tasks.splits import Reader
from rest_jax.tasks.task import Task
from rest_jax.tools.service.cassettes import read_cassette
from rest_jax.tools.settings import read_settings

REPORT = "report.html"
METRICS = "metrics.jsonl"
COMPARED_WITH = ("pilot", "teacher", *ROWS.values())
"""Rows with which the last generation is compared."""
ONCE = ("prompted", "teacher", *floors.PLAYED.values(), floors.MOST_FREQUENT)
"""Rows that are measured once for all seeds, with the first; so is each `students.PROMPTED`."""


def run(loaded: Loaded[RestConfig], run_dir: Path, *, offline: bool, emit: Listener) -> dict[str, Any]:
    """Do what is left of a run and return its summary (also written to summary.json, with report.html beside it).

    Every metric, warning and stage end goes to metrics.jsonl as it comes. Where a launcher started several processes
    all of them play the run, over one folder; the first alone writes and tells what comes of it.

    Raises UserError for whatever the user can mend; what was done until then is kept, and repeating goes on there.
    """
    config, this = loaded.value, launched()
    divide_cpu(max(config.engine.devices, math.ceil(config.devices / this.count)))
    if this.count > 1:
        notice(emit, f"{this}: waits for the others, {WITHIN_S} s at the most")
    elif this != Launched():
        notice(emit, str(this))
    with joined(this) as group:
        summary = _played(loaded, run_dir, group, offline=offline, emit=emit)
        group.shared()  # the folder is whole
    return read_summary(run_dir) if summary is None else summary


def _played(
    loaded: Loaded[RestConfig], run_dir: Path, group: Group, *, offline: bool, emit: Listener
) -> dict[str, Any] | None:
    """The run as one process of a group plays it; the summary is the first one's to write."""
    config = loaded.value
    if group.count > 1:
        refuse_alone(config)
    here = environment(config.model.dtype)
    with (
        MetricsFile(run_dir / METRICS) as metrics,
        open_run(run_dir, loaded, here, to_both(metrics, emit), group) as folder,
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
            log=(run_dir if group.first else run_dir / f"process-{group.index}") / "tools.log",
            improves=config.improves,
            policies=config.policies,
            replies=run_dir / endpoints.REPLIES,
            group=group,
            plays=played(config),
        ) as bench:
            rehearse(config, task, bench.engine.codec)
            seated = students.seated(config, bench, offline=offline)  # before the bench has rows: they take turns
            announce(config, bench, folder.emit)
            measured = measure(config, folder, bench, seated)
        if not group.first:
            return None
        summary = summary_of(config, task, measured, folder.warnings)
        write_json(run_dir / SUMMARY, summary)
        _write_report(run_dir, summary, loaded, folder.stages, task)
    return summary


def refuse_alone(config: RestConfig) -> None:
    """Raises UserError for what a run of several processes cannot do: what is written to one file as it comes."""
    mend = f"take it out, or start the run as one process ({COUNT}=1)"
    if config.policies != PoliciesSettings():
        raise UserError(f"policies: what an endpoint replies is kept by one process, and here are several; {mend}")
    if config.tools.mode == "record":
        raise UserError(f"tools.mode: a cassette is recorded by one process, and here are several; {mend}")


def measure(config: RestConfig, folder: RunFolder, bench: Bench, seated: students.Students) -> list[Measured]:
    """Every measurement of a run, in the table's order: all of its stages, done or found done."""
    shared = Loop(config, config.seeds[0], folder, bench)
    gates = feedback.gates(shared)  # once: a judge near the gate would count in one seed and not in another
    prompted = shared.measured("prompted", "prompted", bench.base, config.evaluate.prompted)
    measured = [prompted, *as_methods(shared, prompted, bench.base, config.evaluate.prompted)]
    if n := config.evaluate.teacher:
        measured.append(shared.measured("teacher", "teacher", bench.base, n, policy="teacher"))
    for seed in config.seeds:
        loop = Loop(config, seed, folder, bench)
        finished = rest(loop, gates)
        measured += [*finished.rows, *(control(loop, name, finished) for name in config.evaluate.controls)]
        for student in seated.items():
            measured += students.distilled(loop, finished, *student)
    return [*measured, *(floor(shared, name) for name in config.evaluate.floors)]


def summary_of(config: RestConfig, task: Task, measured: Sequence[Measured], warnings: Sequence[str]) -> dict[str, Any]:
    """The content of summary.json."""
    return summarise(
        measured,
        title=title(config, task),
        task=task.name,
        described=task.describe(),
        against=COMPARED_WITH,
        seeds=config.seeds,
        notes=notes(config, task),
        warnings=warnings,
    )


def title(config: RestConfig, task: Task) -> str:
    """What stands over a run's table."""
    return f"{config.name}: {task.name}, {config.model.name}"


def report_again(run_dir: Path) -> Path:
    """Write a finished run's report.html again; returns its path. UserError when the run has not finished."""
    summary = read_summary(run_dir)
    loaded = load(run_dir / "config.yaml", RestConfig)
    task = open_task(loaded.value.task, run_dir / "data")
    _write_report(run_dir, summary, loaded, finished_stages(run_dir), task)
    return run_dir / REPORT


def read_summary(run_dir: Path) -> dict[str, Any]:
    """A finished run's summary.json. UserError when there is no such run, or it has not finished."""
    finished_stages(run_dir)
    file = run_dir / SUMMARY
    if not file.is_file():
        raise UserError(f"{run_dir}: the run has not finished (no {SUMMARY}); repeat `rest-jax run` first")
    return json.loads(file.read_text(encoding="utf-8"))


def _write_report(
    run_dir: Path, summary: dict[str, Any], loaded: Loaded[RestConfig], stages: Sequence[Done], task: Task
) -> None:
    environment, metrics = read_environment(run_dir), run_dir / METRICS
    write_run_report(run_dir / REPORT, summary, loaded, stages, task, environment, metrics)


def dry_run(config: RestConfig, *, offline: bool = False) -> list[str]:
    """What a run would do, stage by stage, without doing it: the settings, the task, the models and a file of tools, or
    the cassette in its place, are checked."""
    if config.tools.mode == "replay":
        read_cassette(Path(config.tools.cassette or ""))
    elif config.tools.config is not None:
        read_settings(Path(config.tools.config))
    task = open_task(config.task)
    refuse_too_few(config, task)
    folder = catalog.resolve(config.model.name, offline=offline)
    codec = tokenizer.load(folder)
    rehearse(config, task, codec)
    for student in config.students:
        catalog.resolve(student.name, offline=offline)
    planned = work(config, task, codec)
    rates = plan.two_cores(parameters(config_of(folder)), config.engine.rows * config.engine.replicas)
    lines = [
        f"{w.name:32} {w.trajectories:6} trajectories {w.sampled_tokens / 1000:7.0f}k sampled "
        f"{w.prefilled_tokens / 1000:7.0f}k prefilled {w.trained_tokens / 1000:7.0f}k trained tokens"
        for w in (*planned, plan.total(planned))
    ]
    return [
        *lines,
        f"{bound(config)} {_span(plan.seconds(planned, rates))} on two CPU cores, at "
        f"{rates.sampled:.0f} sampled, {rates.prefilled:.0f} prefilled and {rates.trained:.0f} trained tokens/s "
        f"(docs/results.md); `rest-jax preflight` measures this machine",
    ]


def _span(seconds: float) -> str:
    """A length of time in words: minutes up to two hours, hours beyond."""
    return f"{math.ceil(seconds / 60)} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def refuse_too_few(config: RestConfig, task: Task) -> None:
    """Raise UserError when a task, a method or a teacher has not all that a run will ask of it: at its start rather
    than hours later."""
    ev = config.evaluate
    method = method_of(config.agent, learns=True, textual=endpoints.textual(config))
    for one in config.generations:
        if one.grow.candidates is not None:
            chosen_among = replace(config.agent, candidates=one.grow.candidates)
            method_of(chosen_among, learns=True, textual=endpoints.textual(config))
    for name in ev.methods:
        method_of(as_method(config.agent, name), learns=True)
    for name in played(config):
        if agent(name).tools and not serves(task, config.tools):
            raise UserError(
                f"agent '{name}' calls {', '.join(agent(name).tools)}, and task '{task.name}' has no corpus of its "
                f"own; give tools with tools.config or tools.url, or leave it out"
            )
    feedback.check_labels(config.judge, task)
    task.reward(config.task.reward)
    for setting, split, reader, n in _asked(config):
        try:
            task.questions(split, reader, n)
        except UserError as error:
            raise UserError(f"{setting}: {error}") from None
    supported(task, measured_on(config, task), played(config), config.tools, closed_book=ev.closed_book)
    if n := config.pilot.demonstrations:
        task.demonstrations(config.pilot.source, n, config.seeds[0])
    if "gold" in ev.controls:
        task.demonstrations("gold", 1, config.seeds[0])
    task.shots(0 if config.agent.bare or method.own_shots else config.agent.shots)
    task.reads.drain()  # counted, not read


def played(config: RestConfig) -> tuple[str, ...]:
    """The methods that a run plays, each once: its agent's first, then those that it learns beside, that rows measure,
    and that are floors."""
    with_floors = (one for one in config.evaluate.floors if one in floors.PLAYED)
    return tuple(dict.fromkeys((*config.agent.methods, *config.evaluate.methods, *with_floors)))


def _asked(config: RestConfig) -> Iterator[tuple[str, str, Reader, int]]:
    """The questions that a run will ask: the setting that says so, whose they are, who reads them, and how many."""
    for place, generation in enumerate(config.generations):
        yield f"generations.{place}.grow.questions", "train", Reader.TRAINING, generation.grow.questions
        if n := generation.improve.select:
            yield f"generations.{place}.improve.select", "select", Reader.SELECTION, n
    ev = config.evaluate
    yield "evaluate.split", ev.split, Reader.EVALUATION, 1
    for name in ("prompted", "pilot", "generations", "final", "teacher"):
        unasked = name == "generations" and len(config.generations) == 1
        if (n := getattr(ev, name)) and not unasked:
            yield f"evaluate.{name}", ev.split, Reader.EVALUATION, n
    if ev.gate:
        yield "evaluate.gate", "select", Reader.SELECTION, ev.gate


def measured_on(config: RestConfig, task: Task) -> Sequence[Question]:
    """The questions of a run's rows. Raises UserError when the task has too few."""
    most = max(n for _, _, reader, n in _asked(config) if reader is Reader.EVALUATION)
    return task.questions(config.evaluate.split, Reader.EVALUATION, most)


def announce(config: RestConfig, bench: Workbench, emit: Listener) -> None:
    """Say, before the work begins, what it is about, what it will be, and what it will take here: memory and time."""
    for line in (*about(bench.task), bench.memory.line(config.engine)):
        notice(emit, line)
    if said := shrunk_of(bench.base.folder):
        warning(emit, f"{config.model.label} is {said}; its rows are exploratory")
    planned = work(config, bench.task, bench.engine.codec)
    whole = plan.total(planned)
    for sharing in {False, bench.engine.shares}:
        bench.compile(bench.cast(config.agent.methods, bare=True), sharing=sharing)
    rates = measured_rates(bench.engine)
    notice(
        emit,
        f"the whole run, what is done already included: {whole.trajectories} trajectories, about "
        f"{whole.sampled_tokens / 1000:.0f}k sampled, {whole.prefilled_tokens / 1000:.0f}k prefilled and "
        f"{whole.trained_tokens / 1000:.0f}k trained tokens; at {rates.sampled:.0f}, {rates.prefilled:.0f} and "
        f"{rates.trained:.0f} tokens/s here {bound(config)} "
        f"{math.ceil(plan.seconds(planned, rates) / 60)} min",
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


def told_by_oracle(settings: AgentSettings) -> list[str]:
    """What has to stand beside results of an agent that is told whether its answers are right."""
    said = f"{settings.name}: retries are gated by the gold answers: an oracle's result, beside no other method's"
    return [said] if agent(settings.name).oracle else []


def _counts(entry: Any) -> str:
    if not isinstance(entry, Mapping):
        return str(entry)
    return ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in entry.items())


def notes(config: RestConfig, task: Task) -> list[str]:
    """What a reader has to know beside the numbers."""
    warmth = config.agent.warmth()
    found = supported(task, measured_on(config, task), played(config), config.tools, closed_book=True)
    drawn = f"temperature {warmth:g}" if warmth else "greedy"
    return [
        f"{task.name}, split {config.evaluate.split}, {drawn}",
        *([about_search(task, config.tools)] if any(agent(name).tools for name in played(config)) else []),
        *told_by_oracle(config.agent),
        *(
            f"what is learned of {name} was gated by the gold answers, attempt by attempt"
            for name in config.agent.methods[1:]
            if agent(name).oracle
        ),
        *([str(found)] if found and not found.suffices else []),
        *endpoints.notes(config.policies),
        *about(task),
    ]
