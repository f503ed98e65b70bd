"""report.html of a run, from what its folder holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rest_jax.config.loader import Loaded
from rest_jax.config.settings import RestConfig
from rest_jax.core.trajectory import Trajectory
from rest_jax.recipes.mixture import kept_fraction
from rest_jax.recipes.rest import RECORDS, REWARDS, read_grown
from rest_jax.recipes.stages import Done
from rest_jax.recipes.summary import curve
from rest_jax.recipes.workbench import TRAJECTORIES
from rest_jax.reporting.html import Grown, Judged, Report, write_report
from rest_jax.rollout import store

SHOWN = 40
"""Trajectories that the page shows of each stage."""

THRESHOLDS = tuple(step / 20 for step in range(20))


def write_run_report(
    path: Path,
    summary: Mapping[str, Any],
    loaded: Loaded[RestConfig],
    stages: Sequence[Done],
    gold: Mapping[str, str],
    environment: Mapping[str, Any],
) -> None:
    """Write the page. `gold` maps question ids to gold answers; `environment` is run.json's."""
    report = Report(
        title=summary["title"],
        summary=summary,
        curve=curve(summary),
        grown=[_grown(done, loaded.value) for done in stages if done.name.endswith("/grow")],
        losses={done.name: done.results["losses"] for done in stages if "losses" in done.results},
        galleries={done.name: _gallery(done, gold) for done in stages if (done.folder / TRAJECTORIES).is_file()},
        facts={name: str(fact) for name, fact in environment.items()}
        | {row["name"]: f"weights {row['weights_digest'][:64]}" for row in summary["rows"] if row["weights_digest"]},
        config=loaded.text,
    )
    write_report(path, report)


def _grown(done: Done, config: RestConfig) -> Grown:
    grown = read_grown(done)
    settings = config.generations[done.inputs["generation"] - 1].improve
    rewards = [reward for reward in grown.rewards.values() if reward is not None]
    return Grown(done.name, rewards, [(tau, kept_fraction(grown, settings, tau)) for tau in THRESHOLDS])


def _gallery(done: Done, gold: Mapping[str, str]) -> list[Judged]:
    rewards = _json(done.folder / REWARDS) or {}
    em = {(r["question_id"], r["sample"]): r["em"] for r in _json(done.folder / RECORDS) or []}

    def judged(trajectory: Trajectory) -> Judged:
        reward = rewards.get(trajectory.id)
        right = em.get((trajectory.question_id, trajectory.sample), 1.0 if reward is not None and reward > 0.9 else 0.0)
        return Judged(trajectory, gold.get(trajectory.question_id, ""), reward, right)

    return [judged(trajectory) for trajectory in store.read(done.folder / TRAJECTORIES)[:SHOWN]]


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
