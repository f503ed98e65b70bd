"""The small public Python API: the steps of the loop as functions, for scripts and notebooks.

    import rest_jax

    task = rest_jax.Task("atlas")
    policy = rest_jax.Policy("smollm2-135m-instruct-q4_1")
    grown = rest_jax.grow(policy, task, questions=4, samples=2, temperature=0.8)
    better = rest_jax.improve(policy, grown, threshold=0.0, steps=2)
    print(rest_jax.evaluate(better, task, n=10))

It needs no event loop of the caller's, so it works inside Jupyter's running one. Every function raises
`core.errors.UserError` for what its caller can mend.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rest_jax.config import loader
from rest_jax.config.limits import checked
from rest_jax.config.settings import (
    AgentSettings,
    EngineSettings,
    GrowSettings,
    ImproveSettings,
    ModelSettings,
    RestConfig,
    TaskSettings,
    ToolsSettings,
)
from rest_jax.core.effects import Sampling
from rest_jax.core.events import Listener, silent
from rest_jax.evaluation.records import judge
from rest_jax.evaluation.table import Row, row
from rest_jax.models import catalog
from rest_jax.recipes import improve as improving
from rest_jax.recipes import run as running
from rest_jax.recipes.mixture import Grown, rewarded, thresholded
from rest_jax.recipes.stages import discard
from rest_jax.recipes.workbench import GREEDY, Sitting, Workbench, agent_of, open_workbench
from rest_jax.tasks.registry import register_reward
from rest_jax.tasks.registry import task as open_task
from rest_jax.tasks.splits import Reader

__all__ = ["Grown", "Policy", "Row", "Task", "evaluate", "grow", "improve", "register_reward", "run"]


@dataclass(frozen=True)
class Task:
    """A task by name (`rest-jax tasks list`), with the folder of its data where it needs one."""

    name: str
    data: str | None = None
    reward: str = "default"


@dataclass(frozen=True)
class Policy:
    """A model that plays an agent: a name of `rest-jax models list`, or a folder in Hugging Face's layout.

    `agent` None: what the folder's agent.json says, else the defaults of `AgentSettings`.
    """

    model: str
    agent: AgentSettings | None = None
    engine: EngineSettings = field(default_factory=EngineSettings)
    tools: ToolsSettings = field(default_factory=ToolsSettings)
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"


def run(
    config: str | Path,
    *,
    run_dir: str | Path | None = None,
    overrides: Sequence[str] = (),
    offline: bool = False,
    emit: Listener = silent,
) -> dict[str, Any]:
    """Run a config file and return its summary: what `rest-jax run CONFIG` does, and the content of summary.json."""
    loaded = loader.load(config, RestConfig, overrides)
    return running.run(loaded, Path(run_dir or Path("runs") / loaded.value.name), offline=offline, emit=emit)


def grow(
    policy: Policy,
    task: Task,
    *,
    questions: int,
    samples: int = 1,
    temperature: float = 0.8,
    seed: int = 0,
    emit: Listener = silent,
) -> Grown:
    """Sample trajectories on the first train questions of a task, and reward them."""
    checked(GrowSettings(questions, samples, temperature), "grow")
    with _bench(policy, task, emit) as (bench, scratch):
        asked = bench.task.questions("train", Reader.TRAINING, questions)
        sitting = Sitting(asked, "train", samples, Sampling(temperature), seed, generation=1)
        return rewarded(bench.play(scratch, bench.base, sitting), asked, bench.task.reward(task.reward))


def improve(
    policy: Policy,
    grown: Grown,
    *,
    threshold: float,
    folder: str | Path | None = None,
    seed: int = 0,
    emit: Listener = silent,
    **settings: Any,
) -> Policy:
    """Fine-tune a policy on the trajectories whose reward is greater than `threshold`; returns the better policy.

    `settings` are fields of `ImproveSettings` (steps, learning_rate …). The model is written to `folder` (a new
    temporary folder when there is none) in Hugging Face's layout.
    """
    chosen_settings = checked(ImproveSettings(thresholds=(threshold,), **settings), "improve")
    target = Path(folder) if folder is not None else Path(tempfile.mkdtemp(prefix="rest_jax-"))
    start = catalog.resolve(policy.model)
    agent = agent_of(start, policy.agent)
    mixture = thresholded(grown, chosen_settings, threshold, emit)
    improved = improving.improve(start, mixture, chosen_settings, agent, seed=seed, folder=target, emit=emit)
    discard(target / improving.CHECKPOINTS)
    return replace(policy, model=str(improved.player.folder), agent=None)


def evaluate(
    policy: Policy,
    task: Task,
    *,
    n: int,
    split: str = "report",
    samples: int = 1,
    temperature: float = 0.0,
    seed: int = 0,
    emit: Listener = silent,
) -> Row:
    """Measure a policy on the first n questions of a split; greedy unless a temperature is given."""
    checked(GrowSettings(n, samples, temperature), "evaluate")
    with _bench(policy, task, emit) as (bench, scratch):
        asked = bench.task.questions(split, Reader.EVALUATION, n)
        sampling = replace(GREEDY, temperature=temperature)
        trajectories = bench.play(scratch, bench.base, Sitting(asked, split, samples, sampling, seed))
        records = judge(trajectories, {question.id: question for question in asked}, bench.task.score)
        return row(policy.model, records, task=task.name, split=split, weights_digest=bench.base.weights_digest)


@contextlib.contextmanager
def _bench(policy: Policy, task: Task, emit: Listener) -> Iterator[tuple[Workbench, Path]]:
    checked(policy, "policy")
    with tempfile.TemporaryDirectory(prefix="rest_jax-") as scratch:
        opened = open_workbench(
            open_task(TaskSettings(task.name, task.data, task.reward)),
            model=ModelSettings(policy.model, policy.dtype),
            agent_settings=agent_of(catalog.resolve(policy.model), policy.agent),
            engine=policy.engine,
            tools=policy.tools,
            emit=emit,
            log=Path(scratch) / "tools.log",
        )
        with opened as bench:
            yield bench, Path(scratch)
