"""The policies that a run has made, by the names of their rows."""

from __future__ import annotations

from pathlib import Path

from rest_jax.config.loader import load
from rest_jax.config.settings import RestConfig
from rest_jax.core.errors import UserError
from rest_jax.recipes.improve import MODEL
from rest_jax.recipes.stages import finished_stages, is_run


def model_of(model_or_run: str, row: str | None = None) -> str:
    """A model's name or folder as it is; of a run's folder the model of a row (None: of the last generation).

    Of several seeds it is the first one's. Raises UserError for a row that the run has not.
    """
    path = Path(model_or_run)
    if not is_run(path):
        return model_or_run
    made = models_of_run(path)
    if row is not None and row not in made:
        raise UserError(f"{path}: it has no row '{row}', only {', '.join(made)}")
    return made[row] if row is not None else list(made.values())[-1]


def models_of_run(path: Path) -> dict[str, str]:
    """Row → model, in the order of the loop: prompted, pilot, gen 1, …"""
    config = config_of_run(path)
    folders = {done.name: done.folder for done in finished_stages(path)}
    made = {"prompted": config.model.name}
    prefix = f"seed-{config.seeds[0]}"
    stages = {"pilot": f"{prefix}/pilot"}
    for number, generation in enumerate(config.generations, 1):
        stages[f"gen {number}"] = f"{prefix}/gen-{number}/improve-{len(generation.improve.thresholds)}"
    return made | {row: str(folders[stage] / MODEL) for row, stage in stages.items() if stage in folders}


def config_of_run(path: Path) -> RestConfig:
    """The settings that a run was made with."""
    return load(path / "config.yaml", RestConfig).value
