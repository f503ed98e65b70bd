"""A student made of some of a model's layers: its row and its agent.json say so, before and after training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import rest_jax
from rest_jax.core.events import silent
from rest_jax.models.shrink import shrink
from rest_jax.recipes.agent_file import agent_of, shrunk_of
from rest_jax.recipes.evaluate import Wanted, evaluate_model
from rest_jax.recipes.improve import improve
from rest_jax.recipes.players import config_of_run
from rest_jax.recipes.verify import verify
from rest_jax.rollout import store


def test_what_learned_from_a_shrunk_model_says_so(finished_run: Path, tiny_model: Path, tmp_path: Path) -> None:
    said = shrink(tiny_model, (1,), tmp_path / "one", name="tiny")
    config = config_of_run(finished_run)
    demonstrations = store.read(finished_run / "stages/seed-0/demonstrations/trajectories.parquet")
    settings = replace(config.pilot.improve, steps=1)
    trained = improve(
        tmp_path / "one", demonstrations, settings, config.agent, config.tools, seed=0, folder=tmp_path, emit=silent
    )
    assert shrunk_of(trained.player.folder) == said
    assert agent_of(trained.player.folder).bare
    assert shrunk_of(tiny_model) == ""


def test_an_evaluation_of_a_shrunk_model_says_so(tiny_model: Path, tmp_path: Path) -> None:
    said = shrink(tiny_model, (1,), tmp_path / "one", name="tiny")
    wanted = Wanted(str(tmp_path / "one"), task="atlas", agent="closed_book", split="select", limit=2)
    assert evaluate_model(wanted, tmp_path / "eval.journal", silent)["remark"] == said


@pytest.mark.slow
def test_a_shrunk_students_rows_say_what_it_is(tiny_config: Path, tiny_model: Path, tmp_path: Path) -> None:
    said = shrink(tiny_model, (1,), tmp_path / "one", name="tiny")
    run = tmp_path / "run"
    summary = rest_jax.run(tiny_config, run_dir=run, overrides=[f"students=[{{name: {tmp_path / 'one'}}}]"])
    remarks = {row["name"]: row["remark"] for row in summary["rows"]}
    assert remarks["student one prompted"] == remarks["student one"] == said
    assert verify(run).differences == ()
