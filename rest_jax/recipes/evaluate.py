"""Measure any model as an agent: on a task, or on questions and a corpus of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rest_jax.agents.limits import Limits
from rest_jax.agents.registry import agent, as_method
from rest_jax.config.limits import checked
from rest_jax.config.overrides import overridden
from rest_jax.config.plain import as_plain
from rest_jax.config.settings import (
    AgentSettings,
    EngineSettings,
    ModelSettings,
    PlayerConfig,
    TaskSettings,
    ToolsSettings,
)
from rest_jax.core.canonical import digest
from rest_jax.core.effects import Sampling
from rest_jax.core.errors import UserError
from rest_jax.core.events import Listener, remembering
from rest_jax.core.trajectory import Question
from rest_jax.distributed.cpu import divide_cpu
from rest_jax.evaluation.moves import moved
from rest_jax.evaluation.records import judge
from rest_jax.evaluation.samples import passes, toxicity
from rest_jax.evaluation.table import row, to_json
from rest_jax.models import catalog
from rest_jax.recipes.agent_file import agent_of, at_url, shrunk_of, tools_of
from rest_jax.recipes.environment import environment
from rest_jax.recipes.inputs import common_inputs
from rest_jax.recipes.players import model_of
from rest_jax.recipes.run import about, about_search, told_by_oracle
from rest_jax.recipes.stages import Done, RunFolder, held
from rest_jax.recipes.supported import supported
from rest_jax.recipes.workbench import TRAJECTORIES, RolloutSpec, Workbench, open_workbench, shots_there
from rest_jax.rollout import store
from rest_jax.tasks.local import local, read_questions
from rest_jax.tasks.registry import task as open_task
from rest_jax.tasks.splits import Reader, Split
from rest_jax.tasks.task import Task
from rest_jax.tools.agreement import shown_by

OF_FIRST_ATTEMPTS = "pass@k is that of first attempts, in which the oracle has no part"


@dataclass(frozen=True)
class Given:
    """Settings in place of those that stand beside a model; None is what its agent.json says, else the defaults."""

    agent: AgentSettings | None = None
    tools: ToolsSettings | None = None
    engine: EngineSettings = field(default_factory=EngineSettings)
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"


@dataclass(frozen=True)
class Wanted:
    """What is to be measured; the fields but for `given` are the options of `rest-jax eval`."""

    model: str
    task: str | None = None
    data: str | None = None
    task_seed: int | None = None
    questions: Path | None = None
    corpus: Path | None = None
    split: str = "report"
    agent: str | None = None
    prompt_style: Literal["base", "chat"] | None = None
    shots: int | None = None
    samples: int = 1
    temperature: float | None = None
    seed: int = 0
    limit: int | None = None
    tools_url: str | None = None
    closed_book: bool = False
    offline: bool = False
    overrides: Sequence[str] = ()
    """`agent.KEY=VALUE`, `engine.KEY=VALUE`, `tools.KEY=VALUE`, over what the model's agent.json and the other options
    say."""
    given: Given = Given()


def evaluate_model(wanted: Wanted, folder: Path, emit: Listener) -> dict[str, Any]:
    """A row of the results table; with it `pass_at` and `toxicity` of several samples, `records`, one per trajectory,
    `moves`, how many of them went from which step to which, the `questions` with their gold answers, `inputs`, all that
    decided them, and `notes` and `warnings` for its reader.

    What is made goes to `folder`, for the caller to discard: while it is there, a killed call repeated goes on. Other
    wishes begin anew beside it. Raises UserError for what the caller can mend: no questions, a missing model, an
    unreachable adapter.
    """
    warnings: list[str] = []
    listen = remembering(warnings, emit)
    task, model = task_for(wanted), model_of(wanted.model)
    home = catalog.resolve(model, offline=wanted.offline)
    player = player_for(wanted, task, home)
    divide_cpu(player.engine.devices)
    asked = task.questions(wanted.split, Reader.EVALUATION)[: wanted.limit]
    found = supported(task, asked, [player.agent.name], player.tools, closed_book=wanted.closed_book)
    opened = open_workbench(
        task,
        model=ModelSettings(model, wanted.given.dtype),
        agent_settings=player.agent,
        engine=player.engine,
        tools=player.tools,
        emit=listen,
        offline=wanted.offline,
    )
    with opened as bench, held(folder):
        inputs = inputs_of(wanted, bench, player, len(asked))
        here = inputs["environment"]
        run = RunFolder(folder, listen, config_digest=digest(inputs), environment=here, warnings=warnings)
        done = _played(wanted, asked, run, bench, inputs)
    remark = "; ".join(filter(None, [shrunk_of(home), str(found or ""), *told_by_oracle(player.agent)]))
    return {
        **measured(wanted, task, player, asked, done, remark),
        "questions": {question.id: {"question": question.text, "golds": list(question.golds)} for question in asked},
        "inputs": inputs,
        "notes": notes(wanted, task, player.agent, player.tools),
        "warnings": warnings,
    }


def player_for(wanted: Wanted, task: Task, home: Path) -> PlayerConfig:
    """Who plays: the settings beside the model, those that the caller asked for in their place, and the overrides over
    both."""
    asked_of = agent_for(wanted, task, agent_of(home, wanted.given.agent))
    tools = at_url(tools_of(home, wanted.given.tools), wanted.tools_url)
    return checked(overridden(PlayerConfig(asked_of, wanted.given.engine, tools), wanted.overrides))


def inputs_of(wanted: Wanted, bench: Workbench, player: PlayerConfig, questions: int) -> dict[str, Any]:
    """All that decides the trajectories."""
    common = common_inputs(bench.task, player.agent, player.engine, wanted.seed, [player.agent.name])
    return {
        **as_plain(common, decisive=True),
        "weights_digest": bench.base.weights_digest,
        "split": wanted.split,
        "questions": questions,
        "samples": wanted.samples,
        "temperature": player.agent.warmth(wanted.temperature),
        "tools": shown_by(player.tools),
        "tool_versions": dict(bench.versions),
        "environment": environment(wanted.given.dtype),
    }


def _played(
    wanted: Wanted, asked: Sequence[Question], run: RunFolder, bench: Workbench, inputs: Mapping[str, Any]
) -> Done:
    """The stage in which the questions are answered, of a name of its own for each wish."""
    sampling = Sampling(inputs["temperature"])
    spec = RolloutSpec(asked, wanted.split, wanted.samples, sampling, wanted.seed)

    def work(stage: Path) -> dict[str, Any]:
        bench.play(stage, bench.base, spec)
        return {}

    return run.stage(f"evaluate-{wanted.split}-{run.config_digest[:8]}", inputs, work)


def measured(
    wanted: Wanted, task: Task, player: PlayerConfig, asked: Sequence[Question], done: Done, remark: str
) -> dict[str, Any]:
    """What the trajectories come to: the row, what several samples come to, the records, and the moves."""
    played = store.read(done.folder / TRAJECTORIES)
    records = judge(played, {question.id: question for question in asked}, task.score, task.voice)
    of_all = row(
        wanted.model,
        records,
        task=task.name,
        split=wanted.split,
        weights_digest=done.inputs["weights_digest"],
        seconds=done.seconds,
        remark=remark,
    )
    several = wanted.samples > 1
    passing = passes(records, player.agent.name, wanted.samples) if several else {}
    return {
        **to_json(of_all),
        "pass_at": {str(k): to_json(of) for k, of in passing.items()} or None,
        "toxicity": to_json(toxicity(records)) if several and task.scores_toxicity else None,
        "records": [to_json(record) for record in records],
        "moves": moved(played),
    }


def notes(wanted: Wanted, task: Task, settings: AgentSettings, tools: ToolsSettings) -> list[str]:
    """What a reader has to know beside the numbers."""
    warmth = settings.warmth(wanted.temperature)
    limits = Limits.of(settings, agent(settings.name).turn_tokens)
    drawn = "greedy" if warmth == 0 else f"temperature {warmth:g}, seed {wanted.seed}"
    prompt = "bare" if settings.bare else f"{settings.shots} worked examples"
    return [
        f"{task.name}, split {wanted.split}, {drawn}; interval: 95 % bootstrap over questions",
        f"agent {settings.name}, style {settings.style}, {prompt}; at most {limits.turns} turns of "
        f"{limits.turn_tokens} tokens, observations of {limits.observation_chars} characters",
        *([OF_FIRST_ATTEMPTS] if agent(settings.name).oracle and wanted.samples > 1 else []),
        *([about_search(task, tools)] if agent(settings.name).tools else []),
        *about(task),
    ]


def task_for(wanted: Wanted) -> Task:
    """The named task, with the questions and corpus that are given in place of its own; without a name only these."""
    if wanted.task is None:
        if wanted.questions is None:
            raise UserError("eval: nothing to ask; give --task NAME, or --questions and --corpus")
        if wanted.corpus is None:
            raise UserError("eval: --questions needs what they are about; give --corpus FILE.jsonl or --task NAME")
        return local(wanted.questions, wanted.corpus)
    task = open_task(TaskSettings(wanted.task, wanted.data, seed=wanted.task_seed))
    if wanted.questions is not None:
        task = replace(task, splits={Split.REPORT: read_questions(wanted.questions)}, notes={})
    return task if wanted.corpus is None else replace(task, corpus_file=wanted.corpus)


def agent_for(wanted: Wanted, task: Task, settings: AgentSettings) -> AgentSettings:
    """The model's own settings with what the caller asked for: worked examples, even none, come with an instruction.

    A number that nobody asked for is at most what the task has, and 1 of candidates that another agent does not have.
    """
    chosen = as_method(settings, wanted.agent or settings.name)
    chosen = replace(chosen, style=wanted.prompt_style or settings.style)
    if wanted.shots is not None:
        return replace(chosen, shots=wanted.shots, bare=False)
    return replace(chosen, shots=shots_there(chosen, task))
