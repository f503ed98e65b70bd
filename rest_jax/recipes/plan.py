"""What a run will cost, said before it begins: tokens per stage, and minutes once the machine's rates are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rest_jax.config.settings import GenerationSettings, ImproveSettings, RestConfig
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


TWO_CORES = Rates(sampled=270.0, prefilled=430.0, trained=79.0, rows=128)
"""Of SmolLM2-135M on two CPU cores, two samplers of 64 rows over caches of 320 tokens, 512 packed tokens a step
(docs/results.md, the quickstart's section)."""
TWO_CORES_PARAMETERS = 134_515_008


def two_cores(parameters: int, rows: int) -> Rates:
    """What two CPU cores may be expected to do with a model of another size: as much less as it is larger."""
    share = TWO_CORES_PARAMETERS / parameters
    return Rates(TWO_CORES.sampled * share, TWO_CORES.prefilled * share, TWO_CORES.trained * share, rows)


def plan(config: RestConfig, of: Callable[[str, int | None], Lengths]) -> list[Planned]:
    """The work of a run, in order, for all seeds together; where select decides how far it goes, the most of it.

    `of` says what one trajectory of a method takes, with so many candidates a step, or as many as the agent's settings
    say (None).
    """
    seeds = len(config.seeds)
    ev, one = config.evaluate, of(config.agent.name, None)

    def selected(number: int, improve: ImproveSettings) -> list[Planned]:
        rollouts = seeds * (1 + _steps(improve))
        return [rolled(f"select {number}", improve.select, rollouts)] if improve.select else []

    def rolled(name: str, each: int, rollouts: int = seeds, one: Lengths = one) -> Planned:
        trajectories = rollouts * each
        tokens = round(trajectories * one.sampled), round(trajectories * one.prefilled)
        return Planned(name, trajectories, *tokens, rollouts=rollouts)

    def as_methods(name: str, each: int, rollouts: int = seeds) -> list[Planned]:
        return [rolled(f"{name} as {method}", each, rollouts, of(method, None)) for method in ev.methods]

    work = [rolled("evaluate prompted", ev.prompted, rollouts=1), *as_methods("prompted", ev.prompted, rollouts=1)]
    if ev.teacher:
        work.append(Planned("evaluate teacher", ev.teacher))
    # A script speaks for the model in demonstrations: they cost the tools' time alone.
    if n := config.pilot.demonstrations:
        work.append(Planned("demonstrations", seeds * n * len(config.agent.methods)))
        work.append(Planned("pilot", trained_tokens=seeds * _step(config.pilot.improve)))
    work += [rolled("evaluate pilot", ev.pilot), *as_methods("pilot", ev.pilot)]
    if ev.gate:
        work.append(rolled("pilot gate", ev.gate))
    for number, generation in enumerate(config.generations, 1):
        grow, methods = generation.grow, config.agent.methods
        each = grow.questions * grow.samples
        if grow.policy == "teacher":  # its tokens are sampled elsewhere
            work.append(Planned(f"grow {number} (teacher)", seeds * each * len(methods)))
        else:
            names = [f"grow {number}", *(f"grow {number} as {method}" for method in methods[1:])]
            work += [
                rolled(name, each, one=of(method, grow.candidates)) for name, method in zip(names, methods, strict=True)
            ]
        work.append(Planned(f"improve {number}", trained_tokens=seeds * _trained(generation.improve)))
        work += selected(number, generation.improve)
        last = number == len(config.generations)
        measured = ev.final if last else ev.generations
        work += [rolled(f"evaluate generation {number}", measured), *as_methods(f"generation {number}", measured)]
    for control in ev.controls:
        if control == "majority":
            work.append(rolled("control majority", majority_samples(config) * ev.final))
        elif control == "best_of":  # of the majority's samples, once for both
            if "majority" not in ev.controls:
                work.append(rolled("control best_of", majority_samples(config) * ev.final))
        elif control == "single_sample":
            work.append(rolled("control single_sample", ev.final))
        else:
            learning = _learning(config, begun=1 if control == "more_gen_1" else 0)
            if control == "gold":
                asked = sum(generation.grow.questions for _, generation in learning)
                work.append(Planned("gold demonstrations", seeds * asked * len(config.agent.methods)))
            trained = sum(_trained(generation.improve) for _, generation in learning)
            work.append(Planned(f"control {control}", trained_tokens=seeds * trained))
            for number, generation in learning:
                work += selected(number, generation.improve)
            work.append(rolled(f"evaluate {control}", ev.final))
    for student in config.students:
        work.append(rolled(f"evaluate student {student.label} prompted", ev.prompted, rollouts=1))
        work.append(Planned(f"student {student.label}", trained_tokens=seeds * _step(config.generations[-1].improve)))
        work.append(rolled(f"evaluate student {student.label}", ev.final))
    work += [rolled(f"floor {floor}", ev.final, rollouts=1) for floor in ev.floors if floor in PLAYED]
    return work


def majority_samples(config: RestConfig) -> int:
    """Control C's samples per question, as predicted: all Grows, what is measured on select and the final evaluation
    together, per question."""
    grown = sum(generation.grow.questions * generation.grow.samples for generation in config.generations)
    grown *= len(config.agent.methods)
    chosen = sum(one.improve.select * (1 + _steps(one.improve)) for one in config.generations)
    return max(FEWEST_VOTES, round((grown + chosen + config.evaluate.final) / config.evaluate.final))


def _learning(config: RestConfig, begun: int) -> list[tuple[int, GenerationSettings]]:
    """The generations, with their numbers, in which a control learns: none before the last that forgets them."""
    forgetting = (place for place, generation in enumerate(config.generations) if generation.improve.forgets)
    first = max([begun, *forgetting])
    return list(enumerate(config.generations[first:], first + 1))


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
    return _steps(settings) * _step(settings)


def _steps(settings: ImproveSettings) -> int:
    """The most Improve steps of a generation."""
    return len(settings.thresholds) * settings.rounds


def _step(settings: ImproveSettings) -> int:
    """Tokens of one Improve step."""
    return settings.steps * settings.rows * settings.length
