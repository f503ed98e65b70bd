"""The shared tools of a run: task, engine, tool adapter; opened once, closed with the run."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from rest_jax.agents.limits import Limits
from rest_jax.agents.registry import AnyMethod, AnyPrompt, agent, as_method, method_of
from rest_jax.config.policies import PoliciesSettings
from rest_jax.config.settings import AgentSettings, EngineSettings, ImproveSettings, ModelSettings, ToolsSettings
from rest_jax.core.chat import ChatFormat
from rest_jax.core.demonstration import Demonstration
from rest_jax.core.effects import Agent, Role, Sampling, Status
from rest_jax.core.errors import UserError
from rest_jax.core.events import Event, Listener
from rest_jax.core.files import parts_of
from rest_jax.core.policy import Policy, Request, TextCodec
from rest_jax.core.trajectory import Question, Trajectory
from rest_jax.distributed.group import Group
from rest_jax.models import catalog, checkpoint
from rest_jax.models.decoder import Params
from rest_jax.models.tensors import stored_params
from rest_jax.policies.scripted import ScriptedPolicy
from rest_jax.recipes.endpoints import Endpoints, named, open_endpoints
from rest_jax.recipes.memory import Memory
from rest_jax.recipes.sampler import open_sampler, room_for
from rest_jax.recipes.stages import JOURNAL
from rest_jax.rollout import store
from rest_jax.rollout.journal import open_journal
from rest_jax.rollout.no_tools import NoTools
from rest_jax.rollout.oracle import WithOracle
from rest_jax.rollout.recording import encoder, ids_of
from rest_jax.rollout.runner import Job, Tools, rollout
from rest_jax.sampling.replicas import Replicas
from rest_jax.sampling.stats import Stats, together
from rest_jax.tasks.leaks import refuse_shown
from rest_jax.tasks.task import Task
from rest_jax.tools.agreement import refuse_another, refuse_another_recording, refuse_missing, refuse_trouble
from rest_jax.tools.client import ToolClient
from rest_jax.tools.process import adapter

TRAJECTORIES = "trajectories.parquet"
HEARD = f"judge/{TRAJECTORIES}"
"""In a stage's folder: what the judge said. Its questions are none of the task's."""
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
Actor = Literal["actor", "teacher"]
"""Who acts: a player on the run's own sampler, or the run's teacher."""


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
    sampling: Sampling | None = None
    """None: at the agent's temperature, and greedily where it has none."""
    seed: int = 0
    generation: int = 0
    policy: Actor = "actor"
    candidates: int | None = None
    """Of each step; None: as many as the settings say."""
    methods: tuple[str, ...] = ()
    """Who answers: each of these so often; none: the settings' agent alone. Of several, sample s is the method's whose
    place is s modulo their number."""
    watch: Callable[[Agent], Agent] = lambda agent: agent
    """Wraps each agent, to look on as it works."""

    @property
    def of_each(self) -> int:
        """Trajectories of each question."""
        return self.samples * max(1, len(self.methods))


Cast = Mapping[str, tuple[AnyMethod, AnyPrompt]]
"""Who answers, by name, and how each is prompted."""


class Bench(Protocol):
    """What a loop asks of its workbench. `Workbench` is the one that works; `verify`'s only reads what one has made."""

    @property
    def task(self) -> Task: ...
    @property
    def base(self) -> Player: ...
    @property
    def versions(self) -> Mapping[str, str]: ...
    @property
    def emit(self) -> Listener: ...
    def play(self, folder: Path, player: Player, spec: RolloutSpec) -> list[Trajectory]: ...
    def demonstrate(self, folder: Path, demonstrations: Sequence[Demonstration], split: str) -> list[Trajectory]: ...
    def judge(self, folder: Path, jobs: Sequence[Job], make_agent: Callable[[Job], Agent]) -> list[Trajectory]: ...
    def named(self, role: Literal[Role.TEACHER, Role.JUDGE]) -> Mapping[str, Any]: ...
    def free(self) -> None: ...
    def hand_over(self, player: Player, params: Params) -> None: ...


@dataclass
class Workbench:
    """Everything that a stage needs to make trajectories; `open_workbench` makes one."""

    task: Task
    base: Player
    agent: AgentSettings
    tools: ToolClient | NoTools
    versions: Mapping[str, str]
    """The adapter's tools, each with its version."""
    emit: Listener
    engine: Replicas
    memory: Memory
    """What all of it holds, once it works."""
    policies: PoliciesSettings = field(default_factory=PoliciesSettings)
    endpoints: Endpoints = field(default_factory=dict)
    """The policies behind endpoints, by the role in which agents ask them."""
    group: Group = field(default_factory=Group)
    """The processes that make them together, each on a workbench of its own."""

    def play(self, folder: Path, player: Player, spec: RolloutSpec) -> list[Trajectory]:
        """Trajectories of a player, kept in `folder`; what is already there is not made again."""
        cast = self.cast(spec.methods, bare=player.bare and spec.policy == "actor")
        for _, prompt in cast.values():
            refuse_shown(prompt.asks, spec.questions)
        if spec.policy == "teacher":
            teacher = self.endpoints[Role.TEACHER]
            teacher.speak(teacher.own or self.engine.codec)
            return self._roll(folder, teacher, cast, spec)
        self._seat(player)
        before = self.engine.stats
        common = [beginning for _, prompt in cast.values() for beginning in beginnings(prompt, self.engine.codec)]
        self.compile(cast, sharing=bool(common) and self.engine.shares)
        self.engine.share(common)
        trajectories = self._roll(folder, self.engine, cast, spec)
        did = self.group.shared(astuple(self.engine.stats.since(before)))
        self._tell(together(Stats(*each) for each in did), len(trajectories))
        return trajectories

    def compile(self, cast: Cast, *, sharing: bool) -> None:
        """Compiles what sampling with these prompts needs, with shared beginnings or without; it tells how far it
        is."""

        def report(done: int, total: int, name: str) -> None:
            self.emit(Event("progress", {"stage": "compile", "done": done, "total": total, "unit": "programs"}))

        for stop in dict.fromkeys(prompt.stop for _, prompt in cast.values()):
            self.engine.compile(report, stop, sharing=sharing)

    def demonstrate(self, folder: Path, demonstrations: Sequence[Demonstration], split: str) -> list[Trajectory]:
        """Demonstrations replayed through the real agents and the real tools, their text encoded as imported."""
        cast = self.cast(self.agent.methods, bare=True)
        authors = [method.author(demonstrations, prompt) for method, prompt in cast.values()]

        def write(context: str, request: Request) -> tuple[str, bool]:
            return authors[request.key.sample % len(authors)](context, request)

        asked = [demonstration.question for demonstration in demonstrations]
        spec = RolloutSpec(asked, split, methods=self.agent.methods)
        return self._roll(folder, ScriptedPolicy(self.engine.codec, write), cast, spec)

    def free(self) -> None:
        """Let go of the sampler's rows; they are made again when it plays."""
        self.engine.free()

    def hand_over(self, player: Player, params: Params) -> None:
        """Seat a player with the parameters that training left on its mesh: cast and laid out for the sampler, from
        device to device. The weights of the player before are dropped first."""
        self.engine.load(params, player.weights_digest)

    def judge(self, folder: Path, jobs: Sequence[Job], make_agent: Callable[[Job], Agent]) -> list[Trajectory]:
        """What agents make of the judge's replies, kept in `folder` as HEARD; what is there is not asked again."""
        judge = self.endpoints[Role.JUDGE]
        judge.speak(judge.own or self.engine.codec)
        return self._made((folder / HEARD).parent, judge, jobs, make_agent, GREEDY)

    def named(self, role: Literal[Role.TEACHER, Role.JUDGE]) -> dict[str, Any]:
        """A policy behind an endpoint as a stage's input."""
        return named(getattr(self.policies, role), self.endpoints[role])

    def cast(self, methods: Sequence[str] = (), *, bare: bool) -> Cast:
        """These methods, or the settings' own, each with its prompt."""
        wanted = [agent(name) for name in methods or (self.agent.name,)]
        return {method.name: (method, self.prompt(method, bare=bare)) for method in wanted}

    def prompt(self, method: AnyMethod, *, bare: bool) -> AnyPrompt:
        """`prompt_of` by the bench's settings, task and model."""
        return prompt_of(replace(self.agent, bare=bare), method, self.task, self.engine.codec)

    def _tell(self, did: Stats, trajectories: int) -> None:
        """A line of metrics on what a rollout took; the seconds hold those of the copies."""
        numbers = {name: getattr(did, field) for name, field in ROLLOUT.items()}
        self.emit(Event("metrics", {"stage": "rollout", "step": trajectories, **numbers}))

    def _seat(self, player: Player) -> None:
        if self.engine.weights_digest != player.weights_digest:
            params = stored_params(player.folder, checkpoint.config_of(player.folder))
            self.engine.load(params, player.weights_digest)

    def _roll(self, folder: Path, policy: Policy, cast: Cast, spec: RolloutSpec) -> list[Trajectory]:
        settings = replace(self.agent, candidates=spec.candidates or self.agent.candidates)
        limits = {
            name: Limits.of(as_method(settings, name), method.turn_tokens, self.task.voice)
            for name, (method, _) in cast.items()
        }
        sampling = spec.sampling or Sampling(self.agent.warmth())
        names = tuple(cast)
        jobs = [
            Job(question, sample, spec.seed, spec.generation, self.task.name, spec.split, names[sample % len(names)])
            for question in spec.questions
            for sample in range(spec.of_each)
        ]

        def make_agent(job: Job) -> Agent:
            method, prompt = cast[job.agent]
            return spec.watch(method.run(job.question.blind, prompt, limits[job.agent]))

        told = [job for job in jobs if agent(job.agent).oracle]
        chat = policy.codec.chat if self.agent.style == "chat" else None
        return self._made(
            folder,
            policy,
            jobs,
            make_agent,
            sampling,
            chat,
            WithOracle(self.tools, told, self.task.score, slow=self.task.slow_metric) if told else None,
        )

    def _made(
        self,
        folder: Path,
        policy: Policy,
        jobs: Sequence[Job],
        make_agent: Callable[[Job], Agent],
        sampling: Sampling,
        chat: ChatFormat | None = None,
        tools: Tools | None = None,
    ) -> list[Trajectory]:
        """The jobs' trajectories by question and sample; `chat`: the turns in which their transcripts are written;
        `tools`: None where the agents call none but the adapter's."""
        where, made = self.group.told([str(folder.absolute()), (folder / TRAJECTORIES).is_file()])
        finished, journals = Path(where) / TRAJECTORIES, Path(where) / JOURNAL
        if made:
            self._clear(finished, journals)  # a kill came between the two
            return store.read(finished)
        trajectories = []
        for endpoint in self.endpoints.values():
            endpoint.speak(policy.codec, chat)
        spent = {role: endpoint.usage for role, endpoint in self.endpoints.items()}
        with open_journal(journals, self.group) as journal:
            for trajectory in rollout(
                jobs,
                make_agent,
                {**self.endpoints, Role.ACTOR: policy},
                tools or self.tools,
                journal=journal,
                sampling=sampling,
                emit=self.emit,
                group=self.group,
            ):
                if trajectory.status is Status.TOOL_FAILURE:
                    self._refuse_useless_adapter(trajectory)
                    for endpoint in self.endpoints.values():
                        endpoint.look()
                trajectories.append(trajectory)
        for role, before in spent.items():
            used = asdict(self.endpoints[role].usage.since(before))
            if any(used.values()):
                numbers = {f"{role}_{name}": count for name, count in used.items()}
                self.emit(Event("metrics", {"stage": "rollout", "step": len(trajectories), **numbers}))
        trajectories = store.gather(finished, trajectories, self.group)
        self._clear(finished, journals)
        return trajectories

    def _clear(self, finished: Path, journals: Path) -> None:
        """Remove what is no longer needed once the trajectories are in their place."""
        if self.group.first:
            for path in {*parts_of(finished), *parts_of(journals)} - {finished}:
                path.unlink()

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


def prompt_of(settings: AgentSettings, method: AnyMethod, task: Task, codec: TextCodec) -> AnyPrompt:
    """A method's prompt: bare, or with its instruction and as many worked examples as the settings say; of a method
    that is not their own at most as many as the task has."""
    wanted = settings.shots if method.name == settings.name else min(settings.shots, len(task.examples))
    shots = () if settings.bare or method.own_shots else task.shots(wanted)
    return method.prompt_for(settings, shots, codec.chat)


def shots_there(settings: AgentSettings, task: Task) -> int:
    """As many worked examples as the settings want, and at most those that there are where they are the task's."""
    return settings.shots if agent(settings.name).own_shots else min(settings.shots, len(task.examples))


def beginnings(prompt: AnyPrompt, codec: TextCodec) -> list[tuple[int, ...]]:
    """The ids that transcripts of a prompt begin with, all or many of them; none for a bare one."""
    encode = encoder(codec)
    return [(*codec.bos_ids, *ids_of([encode(segment) for segment in opened])) for opened in prompt.beginnings]


def serves(task: Task, tools: ToolsSettings) -> bool:
    """Whether there is anything for an adapter to serve."""
    return task.corpus_file is not None or tools.serves_without_corpus


@contextlib.contextmanager
def _tools(task: Task, tools: ToolsSettings, log: Path, hidden: Collection[str]) -> Iterator[ToolClient]:
    """A client of the adapter of these settings, over the task's corpus unless they say what else is served; it does
    not get the `hidden` environment variables."""
    corpus = task.corpus_file if tools.serves_without_corpus else task.corpus()
    started = adapter(tools, corpus, log=log, hidden=hidden)
    with started as (url, token), ToolClient(url, tools, token) as client:
        yield client


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
    improves: Sequence[ImproveSettings] = (),
    policies: PoliciesSettings | None = None,
    replies: Path | None = None,
    group: Group | None = None,
    plays: Sequence[str] = (),
) -> Iterator[Workbench]:
    """Load the model, start or check the tool adapter, and close both at the end.

    `log` receives what the adapter prints; without one it is thrown away in the end. `any_corpus` takes an adapter at
    `tools.url` as it is. `policies` are those behind endpoints, whose replies the folder `replies` keeps, if one is
    named. `plays` names other methods that it will play. Each process of a `group` opens a workbench of its own.

    Raises UserError when no adapter answers, when it lacks a tool that a method calls, when it serves another corpus or
    index than the task would, or, before anything is begun, when the settings ask of the agent what it is not able to,
    or when the device will not hold the engine's rows or one of the `improves` that are to come.
    """
    played = [method_of(agent_settings, learns=bool(improves)), *map(agent, plays)]
    called = any(method.tools for method in played)
    base_folder = catalog.resolve(model.name, offline=offline)
    held = room_for(base_folder, engine, dtype=model.dtype, improves=improves)
    with contextlib.ExitStack() as opened:
        if log is None:
            log = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="rest_jax-"))) / "tools.log"
        policies = policies or PoliciesSettings()
        served = _tools(task, tools, log, policies.key_variables)
        client = opened.enter_context(served) if called or serves(task, tools) else NoTools()
        health = client.check()
        refuse_trouble(health)
        for method in played:
            refuse_missing(health, method.name, method.tools)
        if tools.url is not None and task.corpus_file is not None and not any_corpus:
            refuse_another(client.url, health, task.corpus_file, tools, emit)
        if tools.mode == "replay":
            refuse_another_recording(health, tools)
        policy = open_sampler(base_folder, engine, dtype=model.dtype, emit=emit)
        endpoints = open_endpoints(policies, policy.codec, agent_settings, replies, offline=offline)
        yield Workbench(
            task=task,
            base=Player(base_folder, policy.weights_digest, agent_settings.bare),
            agent=agent_settings,
            tools=client,
            versions=health.get("tools", {}),
            emit=emit,
            engine=policy,
            memory=held,
            policies=policies,
            endpoints=opened.enter_context(endpoints),
            group=group or Group(),
        )
