"""What a finished run's search agent would have scored without its checks (Aksitov et al. 2023, table 4).

The checks come after the draft and search nothing, so the draft is the answer of an agent that does not check itself,
and it stands in the logs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rest_jax.agents.search_agent.readings import drafted
from rest_jax.config.settings import RestConfig
from rest_jax.core.errors import UserError
from rest_jax.evaluation.records import Record, judge
from rest_jax.evaluation.statistics import Comparison, compare
from rest_jax.evaluation.table import Row, row
from rest_jax.recipes.players import config_of_run, evaluations
from rest_jax.recipes.workbench import TRAJECTORIES
from rest_jax.rollout import store
from rest_jax.tasks.registry import task as open_task
from rest_jax.tasks.splits import Reader


@dataclass(frozen=True)
class Checked:
    """A row before and after the agent checked its answers."""

    before: Row
    """Of the drafts."""
    gain: Comparison
    """The answers' EM less the drafts', paired by question and seed."""


def checked_answers(run: Path, name: str) -> Checked:
    """The row of this name by its drafts, over all of its seeds.

    Raises UserError for a run of another agent, and for a row of which no trajectory is stored.
    """
    config = config_of_run(run)
    drafting(config, run)
    stages = evaluations(run, name)
    if not stages:
        raise UserError(f"{run}: it has no trajectories of a row '{name}'; name the pilot or a generation")
    with TemporaryDirectory(prefix="rest_jax-") as scratch:
        task = open_task(config.task, Path(scratch))
        questions = {q.id: q for q in task.questions(config.evaluate.split, Reader.EVALUATION)}
    after: list[Record] = []
    before: list[Record] = []
    for done in stages:
        trajectories = store.read(done.folder / TRAJECTORIES)
        after += judge(trajectories, questions, task.score, task.voice)
        before += judge(list(map(drafted, trajectories)), questions, task.score, task.voice)
    weights = ",".join(sorted({done.inputs["player"]["weights_digest"] for done in stages}))
    measured = row(f"{name}, draft", before, task=task.name, split=config.evaluate.split, weights_digest=weights)
    return Checked(measured, compare(name, measured.name, "em", after, before))


def drafting(config: RestConfig, run: Path) -> None:
    """Raises UserError for a run that has an agent which drafts no answers."""
    for name in config.agent.methods:
        if name != "search_agent":
            raise UserError(f"{run}: its agent, {name}, drafts no answers; name a run of the search_agent alone")
