"""One run, played by two processes, one of them killed: what one process alone comes to."""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_runs import write_config

from rest_jax.core.schema import canonical_row
from rest_jax.recipes.digest import run_digest
from rest_jax.recipes.stages import JOURNAL, MANIFEST
from rest_jax.recipes.verify import verify
from rest_jax.recipes.workbench import TRAJECTORIES
from rest_jax.rollout import store
from rest_jax.rollout.journal import progress
from tests.processes import by_hand, free_port, started, together
from tests.waiting import wait_until

WITHIN_S = 1800
GENERATION_0 = ("prompted/evaluate-select", "demonstrations")
TRAINED = ("pilot", "gen-1/improve-1")
SAMPLED_BY_TRAINED = ("pilot/evaluate-select", "pilot-gate/evaluate-select", "gen-1/grow", "gen-1/evaluate-select")
pytestmark = [pytest.mark.slow, pytest.mark.multiprocess]


@pytest.fixture(scope="module")
def config(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run with each Improve over two devices, and a Grow that is long enough to be killed in."""
    path = write_config(tmp_path_factory.mktemp("configs") / "two.yaml", tiny_model)
    text = path.read_text().replace("checkpoint_every: 2", "checkpoint_every: 2, mesh: {data: 2}")
    path.write_text(text.replace("questions: 6, samples: 2", "questions: 12, samples: 4"))
    return path


def command(config: Path, run: Path) -> list[str]:
    return [sys.executable, "-m", "rest_jax.cli.main", "run", str(config), "--run-dir", str(run)]


def devices(count: int) -> dict[str, str]:
    return {"XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"}


def of_two() -> list[dict[str, str]]:
    port = free_port()
    return [{**by_hand(2, index, port), **devices(1)} for index in range(2)]


def by_one(config: Path, run: Path) -> Path:
    (ended,) = together([command(config, run)], [devices(2)], WITHIN_S)
    assert ended[0] == 0
    return run


@pytest.fixture(scope="module")
def alone(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return by_one(config, tmp_path_factory.mktemp("runs") / "alone")


@pytest.fixture(scope="module")
def in_company(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Killed in its Grow: the second process by kill -9, and JAX ends the first. Then both are started again."""
    run = tmp_path_factory.mktemp("runs") / "in_company"
    grow = run / "stages" / "seed-0" / "gen-1" / "grow"
    with started([command(config, run)] * 2, of_two()) as (first, second):
        part = grow / "journal-1.jsonl"
        wait_until(lambda: part.is_file() and progress(part)[1] > 0, "a trajectory of the second", WITHIN_S)
        second.kill()
        first.communicate(timeout=WITHIN_S)
        assert first.returncode == -signal.SIGABRT
    assert not (grow / MANIFEST).exists()
    assert 0 < progress(grow / JOURNAL)[1] <= 48
    (code, said), (other_code, other_said) = together([command(config, run)] * 2, of_two(), WITHIN_S)
    assert (code, other_code) == (0, 0)
    assert "gen 1" in said
    assert [line for line in other_said.splitlines() if "[Gloo]" not in line] == []
    assert [path.name for path in grow.iterdir() if "journal" in path.name or path.stem.startswith("traj")] == [
        TRAJECTORIES
    ]
    return run


def rows(run: Path, stage: str) -> list[dict[str, object]]:
    return [canonical_row(one) for one in store.read(run / "stages" / "seed-0" / stage / TRAJECTORIES)]


@pytest.mark.parametrize("stage", GENERATION_0)
def test_what_the_same_weights_played_is_the_same(alone: Path, in_company: Path, stage: str) -> None:
    assert rows(in_company, stage) == rows(alone, stage)


@pytest.mark.parametrize("stage", TRAINED)
def test_what_they_learned_together_is_what_one_learns(alone: Path, in_company: Path, stage: str) -> None:
    ours, theirs = (load_file(run / "stages/seed-0" / stage / "model/model.safetensors") for run in (in_company, alone))
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=1e-4)


def test_one_process_plays_the_same_with_the_weights_that_they_learned(
    in_company: Path, config: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(in_company, tmp_path / "copy")
    for stage in SAMPLED_BY_TRAINED:
        shutil.rmtree(copy / "stages" / "seed-0" / stage)
    assert run_digest(by_one(config, copy)) == run_digest(in_company)


def test_it_is_verified_like_any_other(in_company: Path) -> None:
    assert verify(in_company).differences == ()
