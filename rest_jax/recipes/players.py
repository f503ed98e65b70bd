"""The policies that a run has made, by the names of their rows."""

from __future__ import annotations

from pathlib import Path

from rest_jax.config.loader import load
from rest_jax.config.settings import RestConfig
from rest_jax.core.errors import UserError
from rest_jax.recipes.controls import ROWS
from rest_jax.recipes.improve import MODEL
from rest_jax.recipes.stages import Done, finished_stages, is_run


def model_of(model_or_run: str, row: str | None = None) -> str:
    """A model's name or folder as it is; of a run's folder the model of a row (None: of the last generation).

    Of several seeds it is the first one's. Raises UserError for a row that the run has not, or has no model
    of, as the teacher's.
    """
    path = Path(model_or_run)
    if not is_run(path):
        return model_or_run
    made = models_of_run(path)
    if row is not None and row not in made:
        raise UserError(f"{path}: it has no model of a row '{row}', only of {', '.join(made)}")
    return made[row] if row is not None else [made[name] for name in made if not name.startswith("student ")][-1]


def models_of_run(path: Path) -> dict[str, str]:
    """Row → model, in the order of the loop: prompted, pilot, gen 1, …, then each student, prompted and trained.

    A generation's is the one that its row measured: the best on select, where Improve steps were chosen among.
    """
    config = config_of_run(path)
    stages = {done.name: done for done in finished_stages(path)}
    trained = {
        done.results["weights_digest"]: str(done.folder / MODEL)
        for done in stages.values()
        if "weights_digest" in done.results
    }
    made = {"prompted": config.model.name}
    prefix = f"seed-{config.seeds[0]}"
    if (pilot := stages.get(f"{prefix}/pilot")) is not None:
        made["pilot"] = str(pilot.folder / MODEL)
    for number in range(1, len(config.generations) + 1):
        measured = stages.get(f"{prefix}/gen-{number}/evaluate-{config.evaluate.split}")
        if measured is not None:
            made[f"gen {number}"] = trained.get(measured.inputs["player"]["weights_digest"], config.model.name)
    for student in config.students:
        made[f"student {student.label} prompted"] = student.name
        if (taught := stages.get(f"{prefix}/student-{student.label}")) is not None:
            made[f"student {student.label}"] = str(taught.folder / MODEL)
    return made


def evaluations(path: Path, row: str) -> list[Done]:
    """The stages that measured a row on the run's own split, one for each seed that did; none for rows of another
    split, and for floors."""
    method, _, of_row = row.rpartition(": ")
    if method:
        row = f"{of_row.replace(' ', '-')}/as-{method}"
    folder = {of_control: f"control-{control}" for control, of_control in ROWS.items()}.get(row)
    if folder is None:
        before = " prompted" if row.startswith("student ") and row.endswith(" prompted") else ""
        folder = row.removesuffix(before).replace(" ", "-", 1) + before.replace(" ", "/")
    wanted = f"{folder}/evaluate-{config_of_run(path).evaluate.split}"
    return [done for done in finished_stages(path) if done.name.partition("/")[2] == wanted]


def config_of_run(path: Path) -> RestConfig:
    """The settings that a run was made with."""
    return load(path / "config.yaml", RestConfig).value
