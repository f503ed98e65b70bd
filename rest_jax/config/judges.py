"""Settings of AI feedback: what the judge (`policies.judge`) is asked about each Grow, and when its word counts."""

from __future__ import annotations

from dataclasses import dataclass, field

from rest_jax.config.limits import NotNegative, Positive, Share, ShareAboveZero
from rest_jax.config.plain import FREE

PAIRS, BALANCED_ACCURACY = 100, 0.85
"""A gate that asks for less says so wherever its judge's word stands."""


@dataclass(frozen=True)
class GateSettings:
    """What a judge has to pass before its word counts: pairs that people have labelled."""

    labels: str = field(metadata=FREE)
    """A JSONL file of labelled pairs (docs/judges.md). Its content decides bits, not its name."""
    pairs: Positive = PAIRS
    """The fewest pairs, each counted once."""
    balanced_accuracy: Share = BALANCED_ACCURACY
    """The least balanced accuracy on them; a reply that cannot be read counts as wrong."""


@dataclass(frozen=True)
class RankingSettings:
    """Each step's candidates are ranked, and the first replaces what is learned of that step: the trajectory stays as
    it was sampled (ReST meets ReAct, section 3.5)."""

    gate: GateSettings
    outputs: Positive = 4
    """The most candidates of a step that are ranked: the chosen one and the likeliest others."""
    tokens: Positive = 256
    """The most tokens of a reply."""
    temperature: NotNegative = 0.0
    """Sampling temperature of the judge."""


@dataclass(frozen=True)
class AnswersSettings:
    """The judge says whether an answer says what the gold answer says; the share of yes is part of the reward."""

    gate: GateSettings
    repetitions: Positive = 10
    """How often it is asked about each answer (ReST meets ReAct, section 4)."""
    weight: ShareAboveZero = 0.5
    """The part of the reward that is the judge's; the rest is the task's own (`task.reward`)."""
    tokens: Positive = 256
    """The most tokens of a reply."""
    temperature: NotNegative = 0.5
    """Sampling temperature of the judge."""


@dataclass(frozen=True)
class JudgeSettings:
    """What the run's judge is asked after each Grow. What has not passed its gate changes nothing."""

    ranking: RankingSettings | None = None
    """Null: nothing is ranked."""
    answers: AnswersSettings | None = None
    """Null: no answer is judged."""
