"""Tasks by name."""

from __future__ import annotations

from pathlib import Path

from rest_jax.config.settings import TaskSettings
from rest_jax.core.cache import cache_folder
from rest_jax.core.errors import UserError
from rest_jax.tasks.rewards import register_reward
from rest_jax.tasks.task import Task

__all__ = ["NAMES", "register_reward", "task"]

NAMES = {
    "atlas": "a fictional world to search, made from a seed: needs no data",
    "hotpotqa": "HotpotQA from local files over 13k pooled paragraphs: needs --data",
}
"""Every task's name, with a line about it."""


def task(settings: TaskSettings, folder: Path | None = None) -> Task:
    """The task of these settings. What it generates or prepares goes to `folder`, else to the cache.

    Which reward they name is for `Task.reward` to find: who only asks or reports needs none. Raises UserError for an
    unknown name, a seed where nothing is generated, or data that is missing or malformed.
    """
    folder = folder or cache_folder() / "tasks"
    match settings.name:
        case "atlas":
            from rest_jax.tasks.atlas import atlas

            return atlas(folder) if settings.seed is None else atlas(folder, settings.seed)
        case "hotpotqa":
            from rest_jax.tasks.hotpotqa import hotpotqa

            if settings.data is None:
                raise UserError("task 'hotpotqa': it needs its files; give the folder with --data (task.data)")
            if settings.seed is not None:
                raise UserError("task 'hotpotqa': its files are its world; leave out task.seed (--task-seed)")
            return hotpotqa(Path(settings.data), folder)
        case unknown:
            raise UserError(f"task '{unknown}': there is none of this name; use one of {', '.join(NAMES)}")
