"""Every setting of a run: one frozen dataclass per part, a sentence under each field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Literal
from urllib.parse import urlsplit

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
from rest_jax.core.effects import Sampling


@dataclass(frozen=True)
class TaskSettings:
    """What is asked, and where its data is."""

    name: str = "atlas"
    """A task of `rest-jax tasks list`."""
    data: str | None = None
    """Folder that holds the task's files; tasks that generate their own data need none."""
    reward: str = "default"
    """The reward's name: the task's own default, or one that `register_reward` added."""
    seed: Seed | None = None
    """Seed of a generated world; null is the world that the project is developed on. Tasks of files have none."""


@dataclass(frozen=True)
class ModelSettings:
    """The model that everything starts from."""

    name: str = "smollm2-135m-instruct-q4_1"
    """A name of `rest-jax models list`, a folder with config.json, a tokenizer and *.safetensors, or a GGUF file."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute and cache type; auto is float32 on CPU and bfloat16 elsewhere. Log-probs are always float32."""


@dataclass(frozen=True)
class AgentSettings:
    """Which method, how it is prompted, and its limits."""

    name: str = "react"
    """A method of `rest_jax/agents`."""
    style: Literal["base", "chat"] = "base"
    """base: plain text, a turn is a line; chat: the model's own chat turns."""
    shots: Natural = 2
    """Worked examples in the prompt of the prompted model."""
    bare: bool = False
    """No instruction and no worked examples: how a model plays that was trained without them."""
    turns: Positive = 6
    """The most model turns of a trajectory."""
    turn_tokens: Positive = 64
    """The most tokens of one turn."""
    observation_chars: Positive = 400
    """An observation is cut at this many characters, at the end of a word, marked with an ellipsis."""


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
    """What `--set` may change of a command that has no configuration file."""

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

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if (self.mode == "live") is not (self.cassette is None):
            yield "cassette", "goes with mode record or replay, and they with it; set both, or leave both out"
        if self.url is not None and "@" in urlsplit(self.url).netloc:
            yield "url", "holds a name or a password, which would be noted; leave them out, a token goes elsewhere"
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
class GrowSettings:
    """Sampling trajectories to learn from."""

    questions: Positive = 100
    """Train questions, the first of the split in its seeded order."""
    samples: Positive = 4
    """Trajectories per question."""
    temperature: NotNegative = 0.8
    """Sampling temperature."""
    top_k: Natural = 0
    """Keep the k likeliest tokens; 0 keeps all."""
    top_p: ShareAboveZero = 1.0
    """Keep the smallest set of tokens with this probability."""
    min_p: Share = 0.0
    """Keep the tokens at least this many times as likely as the likeliest; 0 keeps all."""

    @property
    def sampling(self) -> Sampling:
        """How its tokens are drawn."""
        return Sampling(self.temperature, self.top_k, self.top_p, self.min_p)


@dataclass(frozen=True)
class ImproveSettings:
    """Fine-tuning on the trajectories that pass a threshold."""

    thresholds: Some[Annotated[float, Limit("exclusiveMaximum", 1)]] = (0.5,)
    """Rising: one Improve step for each; kept is what is strictly greater (ReST, Algorithm 1)."""
    filter: Literal["fixed", "percentile", "interpolated"] = "fixed"
    """fixed: the threshold is a reward; percentile: of all rewards; interpolated: between a question's mean and
    maximum (ReST, appendix A.7)."""
    per_question: Positive | None = 4
    """The most trajectories kept of one question (ReST-EM's cut-off); null keeps all."""
    include_seed: bool = True
    """Keep the pilot's demonstrations in the mixture."""
    start: Literal["base", "previous"] = "previous"
    """Start each Improve from the base model (ReST-EM) or from the policy before it (ReST)."""
    prompt: Literal["same", "bare"] = "bare"
    """Train with the prompt as sampled, or without its worked examples."""
    steps: Positive = 30
    """Optimizer steps of each Improve step."""
    rows: Positive = 2
    """Packed rows per optimizer step."""
    length: Annotated[int, Limit("minimum", 2)] = 512
    """Tokens per packed row; longer examples are left out and counted."""
    learning_rate: AboveZero = 5e-5
    """Peak learning rate: linear warm-up, cosine decay to a tenth."""
    warmup: Natural = 3
    """Warm-up steps."""
    weight_decay: NotNegative = 0.0
    """Decoupled weight decay on matrices."""
    clip: AboveZero = 1.0
    """Global gradient norm is clipped here."""
    checkpoint_every: Positive = 10
    """Optimizer steps between checkpoints: the most that a killed run repeats."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if any(after <= before for before, after in pairwise(self.thresholds)):
            yield "thresholds", f"expected rising numbers, got {list(self.thresholds)}"
        if self.filter != "fixed" and min(self.thresholds) < 0:
            yield (
                "thresholds",
                f"{min(self.thresholds):g} is no fraction, as filter {self.filter} needs; start at 0",
            )
        if self.warmup >= self.steps:
            yield "warmup", f"{self.warmup} of {self.steps} steps leave none at the full learning rate; lower it"


@dataclass(frozen=True)
class PilotSettings:
    """The warm start: a few demonstrations, so that a reward filter has something to keep."""

    demonstrations: Positive = 32
    """Demonstrations, each replayed through the real tools; failing ones are dropped and counted."""
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
    """What is measured, on how many questions. Evaluation is greedy."""

    split: Literal["select", "report"] = "report"
    """Choose on select, report on report."""
    prompted: Positive = 100
    """Questions for the prompted model."""
    pilot: Positive = 300
    """Questions for the pilot."""
    gate: Natural = 0
    """Questions of select on which the pilot's format is checked before the first Grow; 0 leaves the check out."""
    generations: Positive = 100
    """Questions for every generation but the last."""
    final: Positive = 300
    """Questions for the last generation and for the controls."""
    controls: Distinct[Literal["more_pilot", "random_samples", "majority", "gold"]] = ()
    """Controls at equal budget: the pilot trained on with its demonstrations; fine-tuning on randomly chosen
    self-samples that answered; majority of the pilot at equal inference tokens; gold demonstrations (a ceiling)."""
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
