"""A finished run is what its trajectories say: verified as it is, and caught where anything in it was changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from rest_jax.cli.main import main
from rest_jax.recipes.digest import run_digest
from rest_jax.recipes.verify import verify
from rest_jax.rollout import store

GROW = Path("stages/seed-0/gen-1/grow")
EVALUATED = Path("stages/seed-0/gen-1/evaluate-select")


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished_run, tmp_path / "run")


def edit(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_run_that_nobody_touched(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in finished_run.rglob("*.json")}
    verified = verify(finished_run)
    assert verified.differences == ()
    files = list(finished_run.rglob("trajectories.parquet"))
    assert verified.trajectories == sum(len(store.read(file)) for file in files) > 0
    assert verified.stages == len(list(finished_run.rglob("manifest.json")))
    assert main(["verify", str(finished_run), "--digest", run_digest(finished_run)]) == 0
    assert capsys.readouterr().out.endswith(f"{verified.digest}: all as stored\n")
    assert {path: path.read_bytes() for path in finished_run.rglob("*.json")} == before


def test_a_summary_of_another_version(run: Path) -> None:
    edit(run / "summary.json", lambda content: content.update(schema_version=1, rows=[]))
    (line,) = verify(run).differences
    assert line == "summary.json: of schema version 1, this rest_jax writes 2: `rest-jax run` writes it anew"


def test_another_digest_than_was_told(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(finished_run), "--digest", "abc"]) == 1
    assert f"differs: run digest: {run_digest(finished_run)}, not abc" in capsys.readouterr().out


def test_a_reward_that_its_trajectory_does_not_earn(run: Path) -> None:
    rewards = json.loads((run / GROW / "rewards.json").read_text())
    id = next(iter(rewards))
    edit(run / GROW / "rewards.json", lambda content: content.update({id: 0.875}))
    differences = verify(run).differences
    assert f"seed-0/gen-1/grow/rewards.json: {id}, stored 0.875, comes to {rewards[id]}" in differences
    # What passes the threshold now was not trained on.
    assert "seed-0/gen-1/improve-1: made from another mixture" in differences


def test_an_answer_that_was_not_given(run: Path) -> None:
    file = run / EVALUATED / "trajectories.parquet"
    first, *others = store.read(file)
    store.write(file, [replace(first, answer="forty-two"), *others])
    differences = verify(run).differences
    (line,) = [line for line in differences if f"{first.id}, answer, stored" in line]
    assert line.startswith("seed-0/gen-1/evaluate-select/records.json: ")
    assert line.endswith('comes to "forty-two"')


def test_a_trajectory_that_is_missing(run: Path) -> None:
    file = run / EVALUATED / "trajectories.parquet"
    store.write(file, store.read(file)[1:])
    assert "seed-0/gen-1/evaluate-select: 0 trajectories that it has no need of, 1 missing" in verify(run).differences


def test_a_trajectory_of_other_weights(run: Path) -> None:
    file = run / EVALUATED / "trajectories.parquet"
    store.write(file, [replace(t, weights_digest="f" * 64) for t in store.read(file)])
    (line,) = verify(run).differences
    assert line.startswith("seed-0/gen-1/evaluate-select: trajectories of other weights (ffffffffffff, not ")


def test_weights_that_were_not_trained(run: Path) -> None:
    (file,) = (run / "stages/seed-0/pilot/model").glob("*.safetensors")
    tensors = load_file(file)
    name = min(tensors)
    save_file({**tensors, name: tensors[name] + 1}, file, metadata={"format": "pt"})
    (line,) = verify(run).differences
    assert line.startswith("seed-0/pilot: weights ")


def test_a_table_that_says_more(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(run / "summary.json", lambda summary: summary["rows"][0].update(em=0.99, seconds=1.0))
    assert main(["verify", str(run)]) == 1
    out = capsys.readouterr().out
    assert "differs: summary.json: rows, prompted, em, stored 0.99, comes to 0.0" in out
    assert out.endswith("1 differences\n")


@pytest.mark.parametrize("name", ["trajectories.parquet", "records.json"])
def test_a_file_that_is_damaged(run: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (run / EVALUATED / name).write_bytes(b"PAR1")
    assert main(["verify", str(run)]) == 2
    err = capsys.readouterr().err
    assert str(run / EVALUATED / name) in err
    assert "damaged" in err


def test_a_run_that_has_not_finished(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "summary.json").unlink()
    assert main(["verify", str(run)]) == 2
    assert "has not finished" in capsys.readouterr().err
