"""The settings of Improve: what is kept, what it is learned from, and how."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Annotated, Literal, get_args

from rest_jax.config.limits import AboveZero, Limit, Natural, NotNegative, Positive, ShareAboveZero, Some

Target = Literal["query", "key", "value", "output", "gate", "up", "down"]
"""A matrix of each layer."""
TARGETS: tuple[Target, ...] = get_args(Target)
Remat = Literal["minimal", "full"]
"""What the backward pass computes anew: all but products with parameters, or whole layers."""


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adaptation (LoRA, Hu et al. 2021): thin matrices beside the model's are trained, and merged into them in
    the end."""

    rank: Positive = 16
    """Inner width of the thin matrices."""
    alpha: AboveZero = 32.0
    """Their product is added alpha / rank times."""
    targets: Annotated[Some[Target], Limit("uniqueItems", True)] = TARGETS
    """The matrices of each layer that get them."""


@dataclass(frozen=True)
class MeshSettings:
    """The devices of an Improve, as many as the product of the three."""

    data: Positive = 1
    """Ways in which the rows of a batch are divided; parameters are whole in each."""
    fsdp: Positive = 1
    """Ways in which rows are divided further, and with them parameters, gradients and moments."""
    tensor: Positive = 1
    """Ways in which heads, hidden units and vocabulary are divided; it must divide the number of each."""

    @property
    def devices(self) -> int:
        """Devices in all."""
        return self.data * self.fsdp * self.tensor


@dataclass(frozen=True)
class WeightingSettings:
    """Reward-weighted regression: an attempt counts exp(worth / temperature); worth is 1 where it was right, 0 where it
    was wrong and -1 without an answer (RISE, section 4.2)."""

    temperature: Annotated[float, Limit("minimum", 0.05)] = 0.4
    """As in the released code: a right attempt counts 12 times a wrong one."""
    centred: bool = False
    """Subtract the mean worth of all attempts at the question first (the paper does, the released code does not)."""


@dataclass(frozen=True)
class ImproveSettings:
    """Fine-tuning on the trajectories that pass a threshold."""

    thresholds: Some[Annotated[float, Limit("exclusiveMaximum", 1)]] = (0.5,)
    """Rising: one Improve step for each; kept is what is strictly greater (ReST, Algorithm 1)."""
    filter: Literal["fixed", "percentile", "question_percentile", "interpolated"] = "fixed"
    """fixed: the threshold is a reward; percentile: of all rewards (RAFT, as ReST's section 5 has it);
    question_percentile: of a question's own rewards; interpolated: between a question's mean and
    maximum (ReST, appendix A.7)."""
    per_question: Positive | None = 4
    """The most trajectories kept of one question (ReST-EM's cut-off); null keeps all."""
    only_finished: bool = False
    """Keep only what ended with an answer, whatever that is worth (ReST meets ReAct, section 3.3)."""
    weighting: WeightingSettings | None = None
    """How much each attempt of what is kept counts; null: all the same."""
    include_seed: bool = True
    """Keep the pilot's demonstrations in the mixture."""
    start: Literal["base", "previous"] = "previous"
    """Start each Improve from the base model (ReST-EM) or from the policy before it (ReST)."""
    prompt: Literal["same", "bare"] = "bare"
    """Train with the prompt as sampled, or without its worked examples."""
    steps: Positive = 30
    """Optimizer steps of each Improve step."""
    rows: Positive = 2
    """Packed rows per optimizer step: a multiple of accumulate x mesh.data x mesh.fsdp."""
    accumulate: Positive = 1
    """Micro-batches in which the gradient of a step is computed, one after the other: the same step, with room for the
    activations of so many times fewer rows."""
    length: Annotated[int, Limit("minimum", 2)] = 512
    """Tokens per packed row; longer examples are left out and counted."""
    learning_rate: AboveZero = 5e-5
    """Peak learning rate: linear warm-up, cosine decay to a tenth."""
    rate_decay: ShareAboveZero = 1.0
    """The learning rate of each further threshold is this times that of the one before it (ReST, section 3, lowers it;
    by how much is not given)."""
    select: Natural = 0
    """Questions of select on which each Improve step and the policy before them are measured: what has the highest mean
    reward by the task, whatever a judge says, is kept. 0 measures nothing and keeps the last."""
    rounds: Positive = 1
    """Improve steps at one threshold, at most: another follows while the mean reward on select rises (ReST, Algorithm
    1)."""
    warmup: Natural = 3
    """Warm-up steps."""
    weight_decay: NotNegative = 0.0
    """Decoupled weight decay on matrices."""
    clip: AboveZero = 1.0
    """Global gradient norm is clipped here."""
    checkpoint_every: Positive = 10
    """Optimizer steps between checkpoints: the most that a killed run repeats. One that got SIGTERM repeats none; on an
    accelerator, where checkpoints are written while further steps are made, a killed one at most twice as many."""
    remat: Remat = "minimal"
    """What the backward pass computes anew. minimal: all but products with parameters; full: whole layers, of which
    then only the inputs are kept, for about a third more work."""
    lora: LoraSettings | None = None
    """Train adapters instead of the model's parameters; null trains those."""
    mesh: MeshSettings = field(default_factory=MeshSettings)
    """How training is divided over devices; another division sums in another order, so it decides bits."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute type of training; auto is float32 on CPU and bfloat16 elsewhere. Parameters, gradients, moments and the
    loss are always float32."""

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
        if self.rounds > 1 and not self.select:
            yield "rounds", f"{self.rounds} go on while the reward on select rises; set select, or leave rounds out"
        if self.rounds > 1 and self.start == "base":
            yield "rounds", f"{self.rounds} from the base model would learn the same again; leave rounds out"

        ways = self.accumulate * self.mesh.data * self.mesh.fsdp
        if self.rows % ways:
            yield (
                "rows",
                f"{self.rows} do not divide over accumulate x mesh.data x mesh.fsdp = {ways}; set it to a multiple of "
                f"{ways}",
            )

    @property
    def forgets(self) -> bool:
        """Whether nothing is left of the policy before: it starts from the base model, and select prefers none."""
        return self.start == "base" and not self.select

    def at(self, step: int) -> ImproveSettings:
        """Those of the Improve step with this number, from 1: further ones learn more slowly."""
        return replace(self, learning_rate=self.learning_rate * self.rate_decay ** (step - 1))
