"""What a run will cost, said before it begins: tokens per stage, and minutes once the machine's rates are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rest_jax.config.settings import ImproveSettings, RestConfig
from rest_jax.recipes.floors import PLAYED

FEWEST_VOTES = 3
"""Two votes have no majority."""
ROWS_RUN_EMPTY = 0.7
"""Of the time that all rows take for a trajectory each, what a rollout takes beyond its share of full rows, because
its last trajectories have the rows to themselves (fitted on the six rollouts of a quickstart, docs/results.md)."""


@dataclass(frozen=True)
class Lengths:
    """Tokens of one trajectory, on average, as the gold demonstrations have them."""

    sampled: float
    """What the model says, and the token that ends each turn."""
    prefilled: float
    """The question and the observations, with the labels before and the cues after them. Of instruction and worked
    examples, which are left out, each trajectory computes besides what fills no whole chunk, where they are not shared
    (`engine.shared`); and of a question that has several samples most compute none."""


@dataclass(frozen=True)
class Planned:
    """One kind of work of a run. Tokens are predictions, from the task's own demonstrations."""

    name: str
    trajectories: int = 0
    sampled_tokens: int = 0
    prefilled_tokens: int = 0
    trained_tokens: int = 0
    rollouts: int = 0
    """How many it takes for these trajectories, one after the other."""


@dataclass(frozen=True)
class Rates:
    """What this machine does, measured: tokens per second of sampling (`rows` together), of reading a prompt or an
    observation, and of training."""

    sampled: float
    prefilled: float
    trained: float
    rows: int


def plan(config: RestConfig, one: Lengths) -> list[Planned]:
    """The work of a run, in order, for all seeds together."""
    seeds = len(config.seeds)
    ev = config.evaluate

    def rolled(name: str, each: int, rollouts: int = seeds) -> Planned:
        trajectories = rollouts * each
        tokens = round(trajectories * one.sampled), round(trajectories * one.prefilled)
        return Planned(name, trajectories, *tokens, rollouts=rollouts)

    work = [rolled("evaluate prompted", ev.prompted, rollouts=1)]
    # A script speaks for the model in demonstrations: they cost the tools' time alone.
    work.append(Planned("demonstrations", seeds * config.pilot.demonstrations))
    work.append(Planned("pilot", trained_tokens=seeds * _trained(config.pilot.improve)))
    work.append(rolled("evaluate pilot", ev.pilot))
    if ev.gate:
        work.append(rolled("pilot gate", ev.gate))
    for number, generation in enumerate(config.generations, 1):
        grow = generation.grow
        work.append(rolled(f"grow {number}", grow.questions * grow.samples))
        work.append(Planned(f"improve {number}", trained_tokens=seeds * _trained(generation.improve)))
        last = number == len(config.generations)
        work.append(rolled(f"evaluate generation {number}", ev.final if last else ev.generations))
    loop_steps = sum(_trained(generation.improve) for generation in config.generations)
    for control in ev.controls:
        if control == "majority":
            work.append(rolled("control majority", majority_samples(config) * ev.final))
        else:
            if control == "gold":
                asked = sum(generation.grow.questions for generation in config.generations)
                work.append(Planned("gold demonstrations", seeds * asked))
            work.append(Planned(f"control {control}", trained_tokens=seeds * loop_steps))
            work.append(rolled(f"evaluate {control}", ev.final))
    work += [rolled(f"floor {floor}", ev.final, rollouts=1) for floor in ev.floors if floor in PLAYED]
    return work


def majority_samples(config: RestConfig) -> int:
    """Control C's samples per question, as predicted: all Grows and the final evaluation together, per question."""
    grown = sum(generation.grow.questions * generation.grow.samples for generation in config.generations)
    return max(FEWEST_VOTES, round((grown + config.evaluate.final) / config.evaluate.final))


def total(work: Sequence[Planned]) -> Planned:
    return Planned(
        "total",
        sum(w.trajectories for w in work),
        sum(w.sampled_tokens for w in work),
        sum(w.prefilled_tokens for w in work),
        sum(w.trained_tokens for w in work),
    )


def seconds(work: Sequence[Planned], rates: Rates) -> float:
    """How long the work takes, part after part; `rates` are those of full rows, and rows run empty at each end."""

    def one(part: Planned) -> float:
        rolled = part.sampled_tokens / rates.sampled + part.prefilled_tokens / rates.prefilled
        emptying = ROWS_RUN_EMPTY * rates.rows * part.rollouts / part.trajectories if part.rollouts else 0.0
        return rolled * (1 + emptying) + part.trained_tokens / rates.trained

    return sum(one(part) for part in work)


def _trained(settings: ImproveSettings) -> int:
    return len(settings.thresholds) * settings.steps * settings.rows * settings.length
