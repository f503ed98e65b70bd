"""Every setting of a run: one frozen dataclass per part, a sentence under each field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Annotated, Literal

from rest_jax.config.controls import Control, control_conflicts
from rest_jax.config.improve import ImproveSettings
from rest_jax.config.judges import JudgeSettings
from rest_jax.config.limits import (
    AboveZero,
    Distinct,
    Limit,
    Natural,
    NotNegative,
    Positive,
    Seed,
    Share,
    ShareAboveZero,
    Some,
)
from rest_jax.config.plain import FREE
from rest_jax.config.policies import PoliciesSettings
from rest_jax.core.effects import Sampling
from rest_jax.core.http import url_conflicts


@dataclass(frozen=True)
class TaskSettings:
    """What is asked, and where its data is."""

    name: str = "atlas"
    """A task of `rest-jax tasks list`."""
    data: str | None = None
    """Folder that holds the task's files; tasks that generate their own data need none."""
    reward: str = "default"
    """The reward's name: default (the task's own), correct (1 or 0: ReST-EM, STaR), or one that `register_reward`
    added."""
    demonstrations: str | None = field(default=None, metadata=FREE)
    """A file that `rest-jax data import` wrote; `pilot.source: imported` learns from it. What it says decides bits, not
    its name."""
    seed: Seed | None = None
    """Seed of a generated world; null is the world that the project is developed on. Tasks of files have none."""


@dataclass(frozen=True)
class ModelSettings:
    """The model that everything starts from."""

    name: str = "smollm2-135m-instruct-q4_1"
    """A name of `rest-jax models list`, a folder with config.json, a tokenizer and *.safetensors, or a GGUF file."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute and cache type; auto is float32 on CPU and bfloat16 elsewhere. Log-probs are always float32."""

    @property
    def label(self) -> str:
        """The name without the folders before it."""
        return PurePath(self.name).name


@dataclass(frozen=True)
class AgentSettings:
    """Which method, how it is prompted, and its limits."""

    name: str = "react"
    """A method: react, search_agent, one of ReAct's baselines (closed_book, cot, cot_sc, act, react_to_cot_sc,
    cot_sc_to_react), question_as_query, self_refine, critic (critic_without_tool, critic_oracle), reflexion over ReAct
    or a chain of thought and its control (reflexion, reflexion_self, resample, resample_self, cot_reflexion,
    cot_reflexion_self, cot_resample, cot_resample_self), RISE (rise, rise_neutral, rise_parallel; rise_collect to learn
    from), CRITIC on toxicity (detoxify, detoxify_without_tool), text games (play, play_reflexion, play_resample),
    programs as answers (program, program_self_refine, program_reflexion, program_reflexion_self, program_resample,
    program_resample_self), programs whose output is the answer (pot, pot_parallel, pot_self_refine, pot_critic,
    pot_critic_without_tool, pot_critic_oracle), or one that `register_method` added."""
    also: Distinct[str] = ()
    """Other methods that the model learns to be beside `name`: demonstrations and Grows are played as each of them too.
    All of its prompts then say of which method they are (`Method: cot`), for bare ones begin alike (FireAct, Chen et
    al. 2023, mixes methods)."""
    style: Literal["base", "chat"] = "base"
    """base: plain text, a turn is a line; chat: the model's own chat turns."""
    shots: Natural = 2
    """Worked examples in the prompt of the prompted model."""
    bare: bool = False
    """No instruction and no worked examples: how a model plays that was trained without them."""
    turns: Positive = 6
    """The most turns of a trajectory, each an action and what it finds: those of the search agent are its searches."""
    turn_tokens: Positive | None = None
    """The most tokens of one turn; null: the method's own (256 of the search agent, 64 of the others)."""
    observation_chars: Positive = 400
    """An observation (of the search agent: each passage) is cut at this many characters, at the end of a word, marked
    with an ellipsis."""
    candidates: Positive = 1
    """Replies that are sampled for each step of the search agent, of which that with the lowest perplexity per token is
    taken (ReST meets ReAct, section 3.2: 4, and 16 for small models); for the second attempt of rise_collect, of which
    a right one is taken (RISE: 16)."""
    memory: Natural | None = None
    """How many of its earlier attempts an attempt of RISE is told, the latest (the paper: one fewer than iterations of
    training); null: all."""
    temperature: NotNegative | None = None
    """Sampling temperature where none is asked for (`grow.temperature`, `--temperature`), in evaluation too, which else
    is greedy (the paper: 0.5). CoT-SC's chains and resampling have one of their own."""

    @property
    def methods(self) -> tuple[str, ...]:
        """All that the model learns to be, each once, `name` first."""
        return tuple(dict.fromkeys((self.name, *self.also)))

    def warmth(self, asked: float | None = None, otherwise: float = 0.0) -> float:
        """The one rule for a stage's temperature: the one asked for, else the agent's, else the stage's own."""
        return next(one for one in (asked, self.temperature, otherwise) if one is not None)

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.candidates > 1 and not self.temperature:
            yield "candidates", f"{self.candidates} of one step are all the same unless temperature is more than 0"


@dataclass(frozen=True)
class EngineSettings:
    """The sampler's shapes. They are part of what a trajectory is a function of, save those that are `free`."""

    rows: Positive = 16
    """Rows that decode together on one device, for each cache width."""
    block: Positive = field(default=8, metadata=FREE)
    """Tokens decoded between two looks at the host."""
    widths: Some[Positive] = (256, 512, 1024, 2048)
    """Cache widths in tokens; a row lives in the narrowest that holds its own context and budget."""
    chunk: Positive = 128
    """The most tokens of a row that one prefill or extend step takes; every width is a multiple of it."""
    extend_rows: Positive = 4
    """Rows that one such step serves; when fewer wait, the others' work is wasted."""
    shared: Natural = 0
    """Tokens of instructions and worked examples that are computed and kept once for all transcripts, and attended to
    apart; 0 keeps them in every row."""
    resident: Positive | None = field(default=None, metadata=FREE)
    """Transcripts that may be open while `rows` of them decode: those that wait for a tool are parked; null is as many
    as rows."""
    park: Literal["device", "host"] = field(default="device", metadata=FREE)
    """Where parked rows are kept: in the device's memory, or in pinned memory of its host."""
    replicas: Positive = field(default=1, metadata=FREE)
    """Samplers side by side, each with its own weights and rows on devices of its own, as many as `tensor` says; fewer
    samplers where there are too few devices. A CPU is divided into as many as are needed."""
    tensor: Positive = 1
    """Devices that one sampler is divided over: by head, hidden unit and token of the vocabulary."""
    attention: Literal["auto", "xla"] = field(default="auto", metadata=FREE)
    """What computes attention: auto takes the fastest that serves device, head size and dtype, and says why; xla serves
    all."""

    @property
    def devices(self) -> int:
        """Devices for all samplers."""
        return self.replicas * self.tensor

    @property
    def room(self) -> int:
        """Tokens of shared beginnings, in whole chunks."""
        return -(-self.shared // self.chunk) * self.chunk

    @property
    def parkable(self) -> int:
        """The most rows that are parked at once."""
        return (self.resident or self.rows) - self.rows

    def widths_within(self, longest: int) -> list[int]:
        """The cache widths in use, ascending: none wider than the first that holds a model's longest context."""
        ascending = sorted(set(self.widths))
        return [width for index, width in enumerate(ascending) if index == 0 or ascending[index - 1] < longest]

    def conflicts(self) -> Iterator[tuple[str, str]]:
        for width in self.widths:
            if width % self.chunk:
                yield "widths", f"{width} is not a multiple of chunk ({self.chunk}); choose multiples of it"
        if self.resident is not None and self.resident < self.rows:
            yield "resident", f"{self.resident} leaves some of the {self.rows} rows empty; choose {self.rows} or more"


@dataclass(frozen=True)
class SamplerConfig:
    """What `--set` may change of a command that has neither a configuration file nor an agent."""

    engine: EngineSettings = field(default_factory=EngineSettings)


OF_THE_CORPUS = ("k1", "b", "title_weight", "exact_title_first", "results")
"""The settings of tools that decide what a search over the task's corpus shows."""


@dataclass(frozen=True)
class ToolsSettings:
    """The tool adapter process."""

    url: str | None = None
    """An adapter that already runs; None starts one on a free loopback port and stops it with the run."""
    config: str | None = field(default=None, metadata=FREE)
    """A YAML file of tools, as of `rest-jax tools serve --config`, for the adapter that is started; null is search over
    the task's corpus, as `results` to `exact_title_first` say. Its tools' versions decide bits, not its name."""
    mode: Literal["live", "record", "replay"] = field(default="live", metadata=FREE)
    """record: also keep every answer in `cassette`; replay: answer from it alone, without corpus, tools or network."""
    cassette: str | None = field(default=None, metadata=FREE)
    """The folder of a recording."""
    timeout_s: AboveZero = 20.0
    """The most seconds that one tool call may take, from its turn on where a tool takes only so many at a time."""
    retries: Natural = 3
    """How often a retryable failure is tried again."""
    results: Positive = 1
    """Passages that a search shows."""
    k1: NotNegative = 1.5
    """BM25 term saturation."""
    b: Share = 0.75
    """BM25 length normalisation."""
    title_weight: Natural = 2
    """How many times a passage's title counts beside its text."""
    exact_title_first: bool = True
    """A passage whose title is the query stands first, as in ReAct's search[entity]."""

    @property
    def serves_without_corpus(self) -> bool:
        """Whether these tools are there without a task's corpus."""
        return self.url is not None or self.config is not None or self.mode == "replay"

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if (self.mode == "live") is not (self.cassette is None):
            yield "cassette", "goes with mode record or replay, and they with it; set both, or leave both out"
        if self.url is not None:
            yield from url_conflicts(self.url)
        if self.mode != "live" and self.url is not None:
            yield "mode", "the adapter at tools.url is started by others, with `rest-jax tools record` or `replay`"
        if self.config is None:
            return
        if self.url is not None:
            yield "config", "the adapter at tools.url is started by others; leave one of the two out"
        for name in OF_THE_CORPUS:
            if getattr(self, name) != getattr(ToolsSettings, name):
                yield name, f"is the corpus entry's own affair in {self.config}; write it there"


@dataclass(frozen=True)
class PlayerConfig:
    """What `--set` may change of a command that has no configuration file."""

    agent: AgentSettings
    engine: EngineSettings
    tools: ToolsSettings


@dataclass(frozen=True)
class GrowSettings:
    """Sampling trajectories to learn from."""

    questions: Positive = 100
    """Train questions, the first of the split in its seeded order."""
    samples: Positive = 4
    """Trajectories per question, of each method."""
    temperature: NotNegative | None = None
    """Sampling temperature; null: the agent's, and 0.8 where it has none."""
    top_k: Natural = 0
    """Keep the k likeliest tokens; 0 keeps all."""
    top_p: ShareAboveZero = 1.0
    """Keep the smallest set of tokens with this probability."""
    min_p: Share = 0.0
    """Keep the tokens at least this many times as likely as the likeliest; 0 keeps all."""
    candidates: Positive | None = None
    """As `agent.candidates`, for this Grow; null: as many as that says."""
    policy: Literal["actor", "teacher"] = "actor"
    """Who acts: the model itself, or `policies.teacher`, with instruction and worked examples."""

    def sampling(self, agent: AgentSettings) -> Sampling:
        """How an agent's tokens are drawn."""
        return Sampling(agent.warmth(self.temperature, 0.8), self.top_k, self.top_p, self.min_p)


@dataclass(frozen=True)
class PilotSettings:
    """The warm start: a few demonstrations, so that a reward filter has something to keep."""

    demonstrations: Natural = 32
    """Demonstrations, each replayed through the real tools; failing ones are dropped and counted. 0: there is no warm
    start, and the prompted model itself grows the first generation (ReST-EM, ReST meets ReAct)."""
    source: str = "gold"
    """gold: the task's own scripted demonstrations; else a source that the task names."""
    improve: ImproveSettings = field(default_factory=ImproveSettings)


@dataclass(frozen=True)
class GenerationSettings:
    """One generation: Grow, reward, Improve."""

    grow: GrowSettings = field(default_factory=GrowSettings)
    improve: ImproveSettings = field(default_factory=ImproveSettings)


@dataclass(frozen=True)
class EvaluateSettings:
    """What is measured, on how many questions: greedily, unless the agent has a temperature."""

    split: Literal["select", "report"] = "report"
    """Choose on select, report on report."""
    prompted: Positive = 100
    """Questions for the prompted model, and for each student before it learns."""
    pilot: Positive = 300
    """Questions for the pilot."""
    gate: Natural = 0
    """Questions of select on which the pilot's format is checked before the first Grow; 0 leaves the check out."""
    generations: Positive = 100
    """Questions for every generation but the last."""
    final: Positive = 300
    """Questions for the last generation, for the controls and for students."""
    teacher: Natural = 0
    """Questions for `policies.teacher` itself; 0 leaves its row out."""
    closed_book: bool = field(default=False, metadata=FREE)
    """Permit a corpus that supports less than 90 % of the answers asked for (`--closed-book`): rows then measure what
    the model remembers too, and the notes say how much is supported."""
    controls: Distinct[Control] = ()
    """Controls at equal budget: the pilot trained on with its demonstrations; fine-tuning on randomly chosen samples of
    the first Grow that answered (the teacher's, where it grew); majority of the pilot at equal inference tokens; gold
    demonstrations (a ceiling); generation 1's policy on its mixture again; what has the lowest perplexity in place of
    what the filter kept (not of a teacher that answers in text); of the majority's samples the likeliest answer; the
    last generation with one candidate a step; one or two samples of each question alone. Majority and likeliest answer
    do not go beside a teacher's Grow."""
    methods: Distinct[str] = ()
    """Other methods that the prompted model, the pilot and each generation are measured as: rows `METHOD: ROW`."""
    floors: Distinct[Literal["closed_book", "most_frequent", "question_as_query"]] = ()
    """Rows that no agent should fall below."""


@dataclass(frozen=True)
class RestConfig:
    """A ReST run: prompted → pilot → generation 1 → generation 2 → …"""

    name: str = "rest"
    """The run's name; without --run-dir it runs in runs/NAME."""
    seeds: Annotated[Some[Seed], Limit("uniqueItems", True)] = (0,)
    """One whole loop per seed; the summary pools them."""
    task: TaskSettings = field(default_factory=TaskSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    agent: AgentSettings = field(default_factory=AgentSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    tools: ToolsSettings = field(default_factory=ToolsSettings)
    pilot: PilotSettings = field(default_factory=PilotSettings)
    generations: Some[GenerationSettings] = (GenerationSettings(), GenerationSettings())
    """The generations, in order."""
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    policies: PoliciesSettings = field(default_factory=PoliciesSettings)
    judge: JudgeSettings | None = None
    """What `policies.judge` is asked about each Grow; null: nothing."""
    students: tuple[ModelSettings, ...] = ()
    """Models that learn from the last generation's mixture too, each from its own weights: a row of each before
    and one after."""

    @property
    def improves(self) -> tuple[ImproveSettings, ...]:
        """The settings of every Improve: the pilot's, then each generation's."""
        return (self.pilot.improve, *(generation.improve for generation in self.generations))

    @property
    def devices(self) -> int:
        """The most devices that sampling or training takes at one time."""
        return max(self.engine.devices, *(improve.mesh.devices for improve in self.improves))

    @property
    def teacher_acts(self) -> bool:
        """Whether the teacher plays the agent, in a Grow or for its own row."""
        return self.evaluate.teacher > 0 or any(one.grow.policy == "teacher" for one in self.generations)

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.policies.teacher is None and self.teacher_acts:
            yield "policies", "no teacher, who is to act; say where it is: teacher: {url: …, model: …}"
        yield from control_conflicts(self)
        if self.policies.judge is None and self.judge is not None:
            yield "policies", "no judge, who is to be asked; say where it is: judge: {url: …, model: …}"
        labels = [student.label for student in self.students]
        if len(set(labels)) < len(labels):
            yield "students", f"expected different names, got {labels}; stages and rows are called after them"
