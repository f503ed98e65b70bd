from __future__ import annotations

from pathlib import Path

import pytest
from tiny_runs import write_config, write_tiny_model

import rest_jax


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, smollm2: Path) -> Path:
    """The folder of a random two-layer model."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny", smollm2)


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A config file of a run that takes seconds."""
    return write_config(tmp_path_factory.mktemp("configs") / "tiny.yaml", tiny_model)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, tiny_config: Path) -> Path:
    """The folder of an uninterrupted run of `tiny_config`. Tests that change it work on a copy."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    rest_jax.run(tiny_config, run_dir=folder)
    return folder
