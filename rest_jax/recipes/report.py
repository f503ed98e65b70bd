"""report.html of a run, from what its folder holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rest_jax.config.loader import Loaded
from rest_jax.config.settings import RestConfig
from rest_jax.core.trajectory import Question, Trajectory
from rest_jax.recipes.feedback import as_learned
from rest_jax.recipes.loop import read_grown
from rest_jax.recipes.mixture import kept_fraction
from rest_jax.recipes.stages import Done
from rest_jax.recipes.summary import curve
from rest_jax.recipes.workbench import ROLLOUT, TRAJECTORIES
from rest_jax.reporting.html import GrowSummary, Judged, Report, write_report
from rest_jax.tasks.task import Task

SHOWN = 40
"""Trajectories that the page shows of each stage."""

THRESHOLDS = tuple(step / 20 for step in range(20))


def write_run_report(
    path: Path,
    summary: Mapping[str, Any],
    loaded: Loaded[RestConfig],
    stages: Sequence[Done],
    task: Task,
    environment: Mapping[str, Any],
    metrics: Path,
) -> None:
    """Write the page. `environment` is run.json's, `metrics` the run's metrics.jsonl."""
    questions = _questions(task)
    report = Report(
        title=summary["title"],
        summary=summary,
        curve=curve(summary),
        grown=[_grown(done, loaded.value, stages) for done in stages if done.name.endswith("/grow")],
        losses={done.name: done.results["losses"] for done in stages if "losses" in done.results},
        rollouts=_rollouts(metrics),
        galleries={
            done.name: _gallery(done, loaded.value, stages, questions, task)
            for done in stages
            if (done.folder / TRAJECTORIES).is_file()
        },
        facts={name: str(fact) for name, fact in environment.items()}
        | {row["name"]: f"weights {row['weights_digest'][:64]}" for row in summary["rows"] if row["weights_digest"]},
        config=loaded.text,
    )
    write_report(path, report)


def _rollouts(metrics: Path) -> list[dict[str, Any]]:
    """What the rollouts took whose every number is there (those of earlier versions lack some)."""
    wanted = {"step", *ROLLOUT}
    lines = (json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()) if metrics.is_file() else ()
    return [line for line in lines if line["kind"] == "metrics" and wanted <= line.keys()]


def _grown(done: Done, config: RestConfig, stages: Sequence[Done]) -> GrowSummary:
    grown = as_learned(read_grown(done), done, config, stages)
    settings = config.generations[done.inputs["generation"] - 1].improve
    rewards = [reward for reward in grown.rewards.values() if reward is not None]
    return GrowSummary(done.name, rewards, [(tau, kept_fraction(grown, settings, tau)) for tau in THRESHOLDS])


def _questions(task: Task) -> dict[str, Question]:
    """Every question that a stage may have asked: those of the splits, and those that only demonstrations have."""
    shown = [demonstration.question for source in task.sources.values() for demonstration in source]
    return {question.id: question for question in (*shown, *(q for split in task.splits.values() for q in split))}


def _gallery(
    done: Done, config: RestConfig, stages: Sequence[Done], questions: Mapping[str, Question], task: Task
) -> list[Judged]:
    """Trajectories as they were played. Right is what the task's own metric calls right, whatever the reward."""
    played = read_grown(done)
    rewards = as_learned(played, done, config, stages).rewards

    def judged(trajectory: Trajectory) -> Judged:
        question = questions[trajectory.question_id]
        score = task.score(trajectory.answer, question)
        return Judged(trajectory, question.answer, rewards.get(trajectory.id), score.em)

    return [judged(trajectory) for trajectory in played.trajectories[:SHOWN]]
