"""The digest of a run: equal for two runs that made the same trajectories and the same weights."""

from __future__ import annotations

from pathlib import Path

from rest_jax.core.canonical import canonical_json, digest, digest_lines
from rest_jax.core.schema import canonical_row
from rest_jax.models import checkpoint
from rest_jax.recipes.improve import MODEL
from rest_jax.recipes.stages import finished_stages
from rest_jax.recipes.workbench import HEARD, TRAJECTORIES
from rest_jax.rollout import store


def run_digest(path: Path) -> str:
    """sha256 over every finished stage: its canonical trajectory rows, sorted (without timings, attempts and host),
    and its parameter leaves (path, dtype, shape, bytes).

    Raises UserError when `path` is no run folder, or a file in it is damaged.
    """
    stages = {}
    for done in finished_stages(path):
        parts = {}
        for part, file in (("trajectories", done.folder / TRAJECTORIES), ("judge", done.folder / HEARD)):
            if file.is_file():
                rows = [canonical_row(trajectory) for trajectory in store.read(file)]
                parts[part] = digest_lines(sorted(rows, key=canonical_json))
        if (done.folder / MODEL).is_dir():
            parts["weights"] = checkpoint.on_disk(done.folder / MODEL).weights_digest
        stages[done.name] = parts
    return digest(stages)
