"""What a run will cost, said before it begins: tokens per stage, and minutes once the machine's rates are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rest_jax.config.settings import ImproveSettings, RestConfig
from rest_jax.recipes.floors import PLAYED

FEWEST_VOTES = 3
"""Two votes have no majority."""


@dataclass(frozen=True)
class Lengths:
    """Tokens of one trajectory, on average."""

    sampled: float
    prefilled: float
    """The question and the observations, with the cues after them; worked examples are computed once, not here."""


@dataclass(frozen=True)
class Planned:
    """One kind of work of a run. Tokens are predictions, from the task's own demonstrations."""

    name: str
    trajectories: int = 0
    sampled_tokens: int = 0
    prefilled_tokens: int = 0
    trained_tokens: int = 0


@dataclass(frozen=True)
class Rates:
    """What this machine does, measured: tokens per second of sampling (all rows together), of reading a prompt or an
    observation, and of training."""

    sampled: float
    prefilled: float
    trained: float


def plan(config: RestConfig, one: Lengths) -> list[Planned]:
    """The work of a run, in order, for all seeds together."""
    seeds = len(config.seeds)
    ev = config.evaluate

    def rolled(name: str, trajectories: int) -> Planned:
        return Planned(name, trajectories, round(trajectories * one.sampled), round(trajectories * one.prefilled))

    work = [rolled("evaluate prompted", ev.prompted)]
    # A script speaks for the model in demonstrations: they cost the tools' time alone.
    work.append(Planned("demonstrations", seeds * config.pilot.demonstrations))
    work.append(Planned("pilot", trained_tokens=seeds * _trained(config.pilot.improve)))
    work.append(rolled("evaluate pilot", seeds * ev.pilot))
    if ev.gate:
        work.append(rolled("pilot gate", seeds * ev.gate))
    for number, generation in enumerate(config.generations, 1):
        grow = generation.grow
        work.append(rolled(f"grow {number}", seeds * grow.questions * grow.samples))
        work.append(Planned(f"improve {number}", trained_tokens=seeds * _trained(generation.improve)))
        last = number == len(config.generations)
        work.append(rolled(f"evaluate generation {number}", seeds * (ev.final if last else ev.generations)))
    loop_steps = sum(_trained(generation.improve) for generation in config.generations)
    for control in ev.controls:
        if control == "majority":
            work.append(rolled("control majority", seeds * majority_samples(config) * ev.final))
        else:
            if control == "gold":
                asked = sum(generation.grow.questions for generation in config.generations)
                work.append(Planned("gold demonstrations", seeds * asked))
            work.append(Planned(f"control {control}", trained_tokens=seeds * loop_steps))
            work.append(rolled(f"evaluate {control}", seeds * ev.final))
    work += [rolled(f"floor {floor}", ev.final) for floor in ev.floors if floor in PLAYED]
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


def seconds(work: Planned, rates: Rates) -> float:
    return (
        work.sampled_tokens / rates.sampled
        + work.prefilled_tokens / rates.prefilled
        + work.trained_tokens / rates.trained
    )


def _trained(settings: ImproveSettings) -> int:
    return len(settings.thresholds) * settings.steps * settings.rows * settings.length
