"""The small public Python API: the steps of the loop as functions, for scripts and notebooks.

    import rest_jax

    task = rest_jax.Task("atlas")
    pilot = rest_jax.Policy("runs/quickstart/stages/seed-0/pilot/model")
    grown = rest_jax.grow(pilot, task, questions=40, samples=4, temperature=0.8)
    better = rest_jax.improve(pilot, grown, threshold=0.5, steps=15, folder="better")
    print(rest_jax.evaluate(better, task, n=100))

`generate` continues plain prompts, with neither agent nor tools.

It needs no event loop of the caller's, so it works inside Jupyter's running one. Every function raises
`core.errors.UserError` for what its caller can mend. Warnings and notices go to stderr, and those of `run` with its
progress; a listener given as `emit` is told every event instead.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rest_jax.agents.registry import method_of
from rest_jax.agents.registry import register_method as register_method
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
from rest_jax.core.errors import UserError
from rest_jax.core.events import Listener
from rest_jax.evaluation.records import judge
from rest_jax.evaluation.table import Row, row
from rest_jax.models import catalog
from rest_jax.recipes import generate as generating
from rest_jax.recipes import improve as improving
from rest_jax.recipes import run as running
from rest_jax.recipes.agent_file import agent_of, tools_of
from rest_jax.recipes.generate import Completion
from rest_jax.recipes.loop import grow_spec
from rest_jax.recipes.mixture import Grown, rewarded, thresholded
from rest_jax.recipes.sampler import open_sampler, room_for
from rest_jax.recipes.stages import discard
from rest_jax.recipes.workbench import RolloutSpec, Workbench, open_workbench
from rest_jax.reporting.stderr import to_stderr
from rest_jax.reporting.terminal import Terminal
from rest_jax.tasks.registry import register_reward as register_reward
from rest_jax.tasks.registry import task as open_task
from rest_jax.tasks.splits import Reader

OF_A_RUN = {"include_seed", "start", "rate_decay", "rounds", "select", "weighting"}
"""Fields of `ImproveSettings` that mean nothing for one step alone, without demonstrations, base model and task."""


@dataclass(frozen=True)
class Task:
    """A task by name (`rest-jax tasks list`); the fields are those of `TaskSettings`."""

    name: str
    data: str | None = None
    reward: str = "default"
    seed: int | None = None


@dataclass(frozen=True)
class Policy:
    """A model that plays an agent: a name of `rest-jax models list`, a folder in Hugging Face's layout, or a GGUF file.

    `agent` and `tools` None: what the folder's agent.json says, else the defaults of their settings.
    """

    model: str
    agent: AgentSettings | None = None
    engine: EngineSettings = field(default_factory=EngineSettings)
    tools: ToolsSettings | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"


def run(
    config: str | Path,
    *,
    run_dir: str | Path | None = None,
    overrides: Sequence[str] = (),
    offline: bool = False,
    emit: Listener | None = None,
) -> dict[str, Any]:
    """Run a config file and return its summary: what `rest-jax run CONFIG` does, and the content of summary.json.

    Without a listener its progress is shown as there.
    """
    loaded = loader.load(config, RestConfig, overrides)
    folder = Path(run_dir or Path("runs") / loaded.value.name)
    with contextlib.nullcontext(emit) if emit else Terminal() as listener:
        return running.run(loaded, folder, offline=offline, emit=listener)


def generate(
    policy: Policy,
    prompts: Sequence[str],
    *,
    max_tokens: int,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    stop: Sequence[str] = (),
    seed: int = 0,
    offline: bool = False,
    emit: Listener = to_stderr,
) -> list[Completion]:
    """Continue prompts with the policy's model, neither agent nor tools: a completion for each, in order; greedy unless
    a temperature is given.

    A prompt is as it is, without a chat's turns; control tokens in it are control tokens. `top_k` 0 keeps all tokens,
    `top_p` the fewest that together have this probability, `min_p` those at least this likely beside the likeliest.
    `stop`: strings each of which ends a completion, beside the model's own end of sequence. What is drawn for a prompt
    depends on its text, its place and the seed, not on the prompts around it. `offline`: never wait for a network.
    """
    checked(policy, "policy")
    checked(GrowSettings(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p), "generate")
    for name, given in (("prompts", prompts), ("stop", stop)):
        if isinstance(given, str):
            raise UserError(f"generate: {name} is one string; give a list of them")
    if max_tokens < 1:
        raise UserError(f"generate: max_tokens: expected at least 1, got {max_tokens}")
    if "" in stop:
        raise UserError("generate: a stop string is empty, and every completion would end at once; leave it out")
    home = catalog.resolve(policy.model, offline=offline)
    room_for(home, policy.engine, dtype=policy.dtype)
    sampler = open_sampler(home, policy.engine, dtype=policy.dtype, emit=emit)
    sampling = Sampling(temperature, top_k, top_p, min_p)
    completions = generating.generate(sampler, prompts, max_tokens=max_tokens, sampling=sampling, stop=stop, seed=seed)
    return list(completions)


def grow(
    policy: Policy,
    task: Task,
    *,
    questions: int,
    samples: int = 1,
    temperature: float | None = None,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    seed: int = 0,
    emit: Listener = to_stderr,
) -> Grown:
    """Sample trajectories on the first train questions of a task, and reward them.

    `temperature` to `min_p`: as of `GrowSettings`. What ends a turn is the agent's own.
    """
    drawn = checked(GrowSettings(questions, samples, temperature, top_k, top_p, min_p), "grow")
    with _bench(policy, task, emit) as (bench, scratch):
        bench.task.reward(task.reward)  # none of this name: refused before the sampling
        asked = bench.task.questions("train", Reader.TRAINING, questions)
        spec = grow_spec(bench.agent, drawn, asked, seed, generation=1)
        return rewarded(bench.play(scratch, bench.base, spec), asked, bench.task, task.reward, emit)


def improve(
    policy: Policy,
    grown: Grown,
    *,
    threshold: float,
    folder: str | Path | None = None,
    seed: int = 0,
    emit: Listener = to_stderr,
    **settings: Any,
) -> Policy:
    """Fine-tune a policy on the trajectories whose reward is greater than `threshold`; returns the better policy.

    `settings` are fields of `ImproveSettings` (steps, learning_rate …), without those of a whole run: `policy` is the
    start, and `grown` all that there is to learn from. The model is written to `folder`/model (a new temporary folder
    when there is none) in Hugging Face's layout, never over another one.
    """
    for name in sorted(settings.keys() & OF_A_RUN):
        raise UserError(
            f"improve: {name} is a setting of a whole run; leave it out, or write a config for rest_jax.run"
        )
    chosen = checked(ImproveSettings(thresholds=(threshold,), **settings), "improve")
    target = Path(folder) if folder is not None else Path(tempfile.mkdtemp(prefix="rest_jax-"))
    if (target / improving.MODEL / "config.json").exists():
        raise UserError(f"{target}: holds a model already; name another folder, or remove {target / improving.MODEL}")
    start = catalog.resolve(policy.model)
    own = agent_of(start, policy.agent)
    method_of(own, learns=True)
    mixture = thresholded(grown, chosen, threshold, emit)
    if not mixture:
        best = max((reward for reward in grown.rewards.values() if reward is not None), default=0.0)
        raise UserError(
            f"improve: no trajectory passes the threshold {threshold:g}, the best reward is {best:g}; lower it, or "
            f"grow more questions or samples"
        )
    improved = improving.improve(
        start,
        mixture,
        chosen,
        own,
        tools_of(start, policy.tools),
        seed=seed,
        folder=target,
        emit=emit,
    )
    discard(target / improving.CHECKPOINTS)
    return replace(policy, model=str(improved.player.folder), agent=None)


def evaluate(
    policy: Policy,
    task: Task,
    *,
    n: int,
    split: str = "report",
    samples: int = 1,
    temperature: float | None = None,
    seed: int = 0,
    emit: Listener = to_stderr,
) -> Row:
    """Measure a policy on the first n questions of a split, at this temperature, else at its agent's, else greedily."""
    if n < 1:
        raise UserError(f"evaluate: n: expected at least 1, got {n}")
    checked(GrowSettings(samples=samples, temperature=temperature), "evaluate")
    with _bench(policy, task, emit) as (bench, scratch):
        asked = bench.task.questions(split, Reader.EVALUATION, n)
        sampling = Sampling(bench.agent.warmth(temperature))
        trajectories = bench.play(scratch, bench.base, RolloutSpec(asked, split, samples, sampling, seed))
        records = judge(trajectories, {question.id: question for question in asked}, bench.task.score, bench.task.voice)
        return row(policy.model, records, task=task.name, split=split, weights_digest=bench.base.weights_digest)


@contextlib.contextmanager
def _bench(policy: Policy, task: Task, emit: Listener) -> Iterator[tuple[Workbench, Path]]:
    checked(policy, "policy")
    home = catalog.resolve(policy.model)
    with tempfile.TemporaryDirectory(prefix="rest_jax-") as scratch:
        opened = open_workbench(
            open_task(TaskSettings(task.name, data=task.data, reward=task.reward, seed=task.seed)),
            model=ModelSettings(policy.model, policy.dtype),
            agent_settings=agent_of(home, policy.agent),
            engine=policy.engine,
            tools=tools_of(home, policy.tools),
            emit=emit,
        )
        with opened as bench:
            yield bench, Path(scratch)
