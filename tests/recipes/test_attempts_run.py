"""A method that attempts a question several times, in the loop: grown, kept, learned by a student, and measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import rest_jax
from rest_jax.core.effects import WRONG
from rest_jax.evaluation.records import OF_ATTEMPTS
from rest_jax.recipes.agent_file import agent_of
from rest_jax.recipes.players import models_of_run
from rest_jax.recipes.stages import finished_stages
from rest_jax.recipes.verify import verify
from rest_jax.rollout import store

CONFIG = """\
extends: {tiny}
agent: {{name: cot_reflexion, turns: 2, turn_tokens: 40}}
students: [{{name: {model}}}]
pilot: {{demonstrations: 2, improve: {{steps: 1, rows: 2, length: 320, warmup: 0}}}}
generations:
  - grow: {{questions: 2, samples: 1}}
    improve: {{thresholds: [-1.0], steps: 1, rows: 2, length: 320, warmup: 0}}
evaluate: {{prompted: 1, pilot: 1, gate: 0, generations: 1, final: 2, floors: []}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_config: Path, tiny_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("attempts")
    (folder / "attempts.yaml").write_text(CONFIG.format(tiny=tiny_config, model=tiny_model))
    rest_jax.run(folder / "attempts.yaml", run_dir=folder / "run")
    return folder / "run"


def test_what_reflexion_did_is_grown_kept_and_distilled(run: Path) -> None:
    stages = {done.name.removeprefix("seed-0/"): done for done in finished_stages(run)}
    grown = store.read(stages["gen-1/grow"].folder / "trajectories.parquet")
    steps = ["think", "reflect"] * 4 + ["think"]
    assert [[call.step for call in one.calls] for one in grown] == [steps, steps], "a random model is never right"
    assert {call.content for one in grown for call in one.tool_calls} <= {WRONG}
    shown = store.read(stages["demonstrations"].folder / "trajectories.parquet")
    assert [[call.step for call in one.calls] for one in shown] == [["think"], ["think"]], "and a script at once"
    for stage in ("gen-1/improve-1", "student-tiny"):
        assert len(stages[stage].inputs["mixture"]) == 4
        assert stages[stage].results["examples"] == 2 + 2 * len(steps)
    models = models_of_run(run)
    for name in ("gen 1", "student tiny"):
        assert (agent_of(Path(models[name])).name, agent_of(Path(models[name])).bare) == ("cot_reflexion", True)
    assert verify(run).differences == ()


def test_its_rows_tell_of_its_attempts_and_of_its_oracle(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    rows = {row["name"]: row for row in summary["rows"]}
    for name in ("prompted", "pilot", "gen 1", "student tiny"):
        assert (rows[name]["trials_per_trajectory"], rows[name]["waves"]) == (5.0, 9.0)
        assert (rows[name]["em"], rows[name]["em_majority"], rows[name]["em_any"]) == (0.0, 0.0, 0.0)
    assert any("retries are gated by the gold answers" in note for note in summary["notes"])
    records = json.loads((run / "stages/seed-0/gen-1/evaluate-select/records.json").read_text())
    assert [[record[name] for name in OF_ATTEMPTS] for record in records] == [[5, 9, 0.0, 0.0, 0.0]] * 2
