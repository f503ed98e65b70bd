"""The shared tools of a run: task, engine, tool adapter; opened once, closed with the run."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rest_jax.agents.demonstration import author
from rest_jax.agents.limits import Limits, cut
from rest_jax.agents.prompt import OBSERVATION, QUESTION, Prompt
from rest_jax.agents.registry import Method, agent
from rest_jax.config.settings import AgentSettings, EngineSettings, ModelSettings, ToolsSettings
from rest_jax.core.demonstration import Demonstration
from rest_jax.core.effects import Agent, Role, Sampling, Status
from rest_jax.core.errors import UserError
from rest_jax.core.events import Event, Listener
from rest_jax.core.policy import Policy, TextCodec
from rest_jax.core.trajectory import Question, Trajectory
from rest_jax.models import catalog, checkpoint
from rest_jax.models.tensors import stored_params
from rest_jax.policies.scripted import ScriptedPolicy
from rest_jax.recipes.memory import Memory
from rest_jax.recipes.plan import Lengths
from rest_jax.recipes.sampler import open_sampler, room_for
from rest_jax.recipes.stages import JOURNAL
from rest_jax.rollout import store
from rest_jax.rollout.journal import Journal
from rest_jax.rollout.recording import encoder
from rest_jax.rollout.runner import Job, rollout
from rest_jax.sampling.replicas import Replicas
from rest_jax.sampling.stats import Stats
from rest_jax.tasks.task import Task
from rest_jax.tools.agreement import refuse_another, refuse_another_recording, refuse_missing, refuse_trouble
from rest_jax.tools.client import ToolClient
from rest_jax.tools.process import adapter

TRAJECTORIES = "trajectories.parquet"
GREEDY = Sampling(temperature=0.0)
ROLLOUT = {
    "sampled_tokens": "decoded",
    "prefilled_tokens": "prefilled",
    "occupancy": "occupancy",
    "parked": "parks",
    "unparked": "unparks",
    "copied": "copies",
    "copied_bytes": "copied_bytes",
    "engine_seconds": "seconds",
}
"""What metrics.jsonl says of a rollout, each with its field of `Stats`."""


@dataclass(frozen=True)
class Player:
    """A policy as stages name it: its weights' folder, and whether it does without instruction and worked examples."""

    folder: Path
    weights_digest: str
    bare: bool = False


@dataclass(frozen=True)
class RolloutSpec:
    """Which questions are answered how often, and by what randomness."""

    questions: Sequence[Question]
    split: str
    samples: int = 1
    sampling: Sampling = GREEDY
    seed: int = 0
    generation: int = 0
    watch: Callable[[Agent], Agent] = lambda agent: agent
    """Wraps each agent, to look on as it works."""


@dataclass
class Workbench:
    """Everything that a stage needs to make trajectories; `open_workbench` makes one."""

    task: Task
    base: Player
    agent: AgentSettings
    tools: ToolClient
    versions: Mapping[str, str]
    """The adapter's tools, each with its version."""
    emit: Listener
    engine: Replicas
    memory: Memory
    """What all of it holds, once it works."""

    def play(self, folder: Path, player: Player, spec: RolloutSpec, method: str | None = None) -> list[Trajectory]:
        """Trajectories of a player, kept in `folder`; what is already there is not made again.

        `method` plays another agent than the settings'.
        """
        chosen = agent(method or self.agent.name)
        self._seat(player)
        prompt = self.prompt(chosen, bare=player.bare)
        before = self.engine.stats
        common = beginnings(prompt, self.engine.codec)
        self.compile(prompt, sharing=bool(common) and self.engine.shares)
        self.engine.share(common)
        trajectories = self._roll(folder, self.engine, chosen, prompt, spec)
        self._tell(self.engine.stats.since(before), len(trajectories))
        return trajectories

    def compile(self, prompt: Prompt, *, sharing: bool) -> None:
        """Compiles what sampling with this prompt needs, with shared beginnings or without; it tells how far it is."""

        def report(done: int, total: int, name: str) -> None:
            self.emit(Event("progress", {"stage": "compile", "done": done, "total": total, "unit": "programs"}))

        self.engine.compile(report, prompt.stop, sharing=sharing)

    def seat(self, folder: Path, *, bare: bool) -> Player:
        """A player of the base model's architecture and tokenizer from its weights' folder, ready to play."""
        loaded = checkpoint.on_disk(folder)
        self.engine.load(loaded.params, loaded.weights_digest)
        return Player(folder, loaded.weights_digest, bare)

    def demonstrate(self, folder: Path, demonstrations: Sequence[Demonstration], split: str) -> list[Trajectory]:
        """Demonstrations replayed through the real agent and the real tools, their text encoded as imported."""
        method = agent(self.agent.name)
        prompt = self.prompt(method, bare=True)
        policy = ScriptedPolicy(self.engine.codec, author(demonstrations, method.lines, prompt))
        spec = RolloutSpec([demonstration.question for demonstration in demonstrations], split)
        return self._roll(folder, policy, method, prompt, spec)

    def prompt(self, method: Method, *, bare: bool) -> Prompt:
        """The method's prompt: bare, or with its instruction and as many worked examples as the settings say."""
        shots = () if bare else self.task.shots(self.agent.shots)
        prompt = method.prompt(self.agent.style, shots, self.engine.codec.chat)
        return prompt.bare() if bare else prompt

    def _tell(self, did: Stats, trajectories: int) -> None:
        """A line of metrics on what a rollout took; the seconds hold those of the copies."""
        numbers = {name: getattr(did, field) for name, field in ROLLOUT.items()}
        self.emit(Event("metrics", {"stage": "rollout", "step": trajectories, **numbers}))

    def _seat(self, player: Player) -> None:
        if self.engine.weights_digest != player.weights_digest:
            params = stored_params(player.folder, checkpoint.config_of(player.folder))
            self.engine.load(params, player.weights_digest)

    def _roll(
        self, folder: Path, policy: Policy, method: Method, prompt: Prompt, spec: RolloutSpec
    ) -> list[Trajectory]:
        finished = folder / TRAJECTORIES
        if finished.is_file():
            (folder / JOURNAL).unlink(missing_ok=True)  # a kill came between the two
            return store.read(finished)
        limits = Limits.of(self.agent)
        jobs = [
            Job(question, sample, spec.seed, spec.generation, self.task.name, spec.split, method.name)
            for question in spec.questions
            for sample in range(spec.samples)
        ]
        trajectories = []
        with Journal(folder / JOURNAL) as journal:
            for trajectory in rollout(
                jobs,
                lambda job: spec.watch(method.run(job.question, prompt, limits)),
                {Role.ACTOR: policy},
                self.tools,
                journal=journal,
                sampling=spec.sampling,
                emit=self.emit,
            ):
                if trajectory.status is Status.TOOL_FAILURE:
                    self._refuse_useless_adapter(trajectory)
                trajectories.append(trajectory)
        trajectories.sort(key=lambda t: (t.question_id, t.sample))
        store.write(finished, trajectories)
        (folder / JOURNAL).unlink()
        return trajectories

    def _refuse_useless_adapter(self, trajectory: Trajectory) -> None:
        """While the adapter lives and works, a trajectory that it failed is masked; else all the others would fail."""
        try:
            health = self.tools.check()
        except UserError as error:
            raise UserError(
                f"the tool adapter at {self.tools.url} is gone ({trajectory.why}); see that one can run there, then "
                f"repeat the command"
            ) from error
        refuse_trouble(health)


def beginnings(prompt: Prompt, codec: TextCodec) -> list[tuple[int, ...]]:
    """The ids that all transcripts of a prompt begin with; none for a bare one."""
    encode = encoder(codec)
    ids = tuple(id for segment in prompt.beginning for id in encode(segment).ids or ())
    return [(*codec.bos_ids, *ids)] if ids else []


def lengths(task: Task, codec: TextCodec, settings: AgentSettings) -> Lengths:
    """Tokens of a trajectory, as the task's gold demonstrations have them."""

    def tokens(texts: Iterable[str]) -> int:
        return sum(len(codec.encode_untrusted(text)) for text in texts)

    method = agent(settings.name)
    some = task.sources["gold"][:100]
    lines = [line for demonstration in some for line in method.lines(demonstration)]
    seen = [cut(line.observation, settings.observation_chars) for line in lines if line.observation is not None]
    given = [f"{QUESTION} {demonstration.question.text}" for demonstration in some]
    given += [f"{OBSERVATION} {observation}" for observation in seen]
    return Lengths(
        sampled=(tokens(line.said for line in lines) + len(lines)) / len(some),
        prefilled=tokens(f"{text}\n{method.cue}" for text in given) / len(some),
    )


@contextlib.contextmanager
def open_workbench(
    task: Task,
    *,
    model: ModelSettings,
    agent_settings: AgentSettings,
    engine: EngineSettings,
    tools: ToolsSettings,
    emit: Listener,
    offline: bool = False,
    log: Path | None = None,
    any_corpus: bool = False,
    trains: bool = False,
) -> Iterator[Workbench]:
    """Load the model, start or check the tool adapter, and close both at the end.

    `log` receives what the adapter prints; without one it is thrown away in the end. `any_corpus` takes an adapter at
    `tools.url` as it is. Raises UserError when none answers, when it lacks a tool that the agent calls, when it serves
    another corpus or index than the task would, or, before anything is begun, when the device will not hold the
    engine's rows or, where the caller `trains`, an Improve.
    """
    base_folder = catalog.resolve(model.name, offline=offline)
    held = room_for(base_folder, engine, dtype=model.dtype, trains=trains)
    with contextlib.ExitStack() as opened:
        if log is None:
            log = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="rest_jax-"))) / "tools.log"
        url, token = opened.enter_context(adapter(tools, task.corpus(), log=log))
        client = opened.enter_context(ToolClient(url, tools, token))
        health = client.check()
        refuse_trouble(health)
        refuse_missing(health, agent_settings.name, agent(agent_settings.name).tools)
        if tools.url is not None and not any_corpus:
            refuse_another(url, health, task.corpus(), tools, emit)
        if tools.mode == "replay":
            refuse_another_recording(health, tools)
        policy = open_sampler(base_folder, engine, dtype=model.dtype, emit=emit)
        yield Workbench(
            task=task,
            base=Player(base_folder, policy.weights_digest, agent_settings.bare),
            agent=agent_settings,
            tools=client,
            versions=health.get("tools", {}),
            emit=emit,
            engine=policy,
            memory=held,
        )
