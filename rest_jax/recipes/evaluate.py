"""Measure any model as an agent: on a task, or on questions and a corpus of one's own."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rest_jax.config.settings import AgentSettings, EngineSettings, ModelSettings, TaskSettings, ToolsSettings
from rest_jax.core.effects import Sampling
from rest_jax.core.errors import UserError
from rest_jax.core.events import Listener
from rest_jax.evaluation.records import judge
from rest_jax.evaluation.table import row, to_json
from rest_jax.models import catalog
from rest_jax.recipes.players import model_of
from rest_jax.recipes.workbench import Sitting, agent_of, open_workbench
from rest_jax.tasks.local import local, read_questions
from rest_jax.tasks.registry import task as open_task
from rest_jax.tasks.splits import Reader, Split
from rest_jax.tasks.task import Task


@dataclass(frozen=True)
class Wanted:
    """What is to be measured; the fields are the options of `rest-jax eval`."""

    model: str
    task: str | None = None
    data: str | None = None
    questions: Path | None = None
    corpus: Path | None = None
    split: str = "report"
    agent: str | None = None
    prompt_style: Literal["base", "chat"] | None = None
    shots: int | None = None
    samples: int = 1
    temperature: float = 0.0
    seed: int = 0
    limit: int | None = None
    tools_url: str | None = None
    offline: bool = False


def evaluate_model(wanted: Wanted, emit: Listener) -> dict[str, Any]:
    """A row of the results table, and one record per trajectory under `records`.

    Raises UserError for what the caller can mend: no questions, a missing model, an unreachable adapter.
    """
    task = task_for(wanted)
    model = model_of(wanted.model)
    asked = task.questions(wanted.split, Reader.EVALUATION)[: wanted.limit]
    opened = open_workbench(
        task,
        model=ModelSettings(model),
        agent_settings=agent_for(wanted, task, agent_of(catalog.resolve(model, offline=wanted.offline))),
        engine=EngineSettings(),
        tools=ToolsSettings(url=wanted.tools_url),
        emit=emit,
        offline=wanted.offline,
    )
    with opened as bench, tempfile.TemporaryDirectory(prefix="rest_jax-") as scratch:
        begun = time.monotonic()
        sitting = Sitting(asked, wanted.split, wanted.samples, Sampling(wanted.temperature), wanted.seed)
        trajectories = bench.play(Path(scratch), bench.base, sitting)
        records = judge(trajectories, {question.id: question for question in asked}, task.score)
        measured = row(
            wanted.model,
            records,
            task=task.name,
            split=wanted.split,
            weights_digest=bench.base.weights_digest,
            seconds=time.monotonic() - begun,
        )
    return {**to_json(measured), "records": [to_json(record) for record in records]}


def task_for(wanted: Wanted) -> Task:
    """The named task, with the questions and corpus that are given in place of its own; without a name only these."""
    if wanted.task is None:
        if wanted.questions is None:
            raise UserError("eval: nothing to ask; give --task NAME, or --questions and --corpus")
        if wanted.corpus is None:
            raise UserError("eval: --questions needs what they are about; give --corpus FILE.jsonl or --task NAME")
        return local(wanted.questions, wanted.corpus)
    task = open_task(TaskSettings(wanted.task, wanted.data))
    if wanted.questions is not None:
        task = replace(task, splits={Split.REPORT: read_questions(wanted.questions)}, notes={})
    return task if wanted.corpus is None else replace(task, corpus_file=wanted.corpus)


def agent_for(wanted: Wanted, task: Task, settings: AgentSettings) -> AgentSettings:
    """The model's own settings with what the caller asked for: worked examples, even none, come with an instruction.

    A number that nobody asked for is at most what the task has.
    """
    chosen = replace(settings, name=wanted.agent or settings.name, style=wanted.prompt_style or settings.style)
    if wanted.shots is not None:
        return replace(chosen, shots=wanted.shots, bare=False)
    return replace(chosen, shots=min(settings.shots, len(task.examples)))
