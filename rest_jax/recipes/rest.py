"""ReST: pilot → (Grow → reward → Improve) for each generation, every policy measured.

Sources: ReST (Gulcehre et al. 2023, Algorithm 1), ReST-EM (Singh et al. 2023), ReST meets ReAct (Aksitov et al. 2023,
sections 3.3 to 3.6).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from rest_jax.agents.registry import agent
from rest_jax.config.settings import ImproveSettings
from rest_jax.core.errors import UserError
from rest_jax.core.events import silent, warning
from rest_jax.core.trajectory import Trajectory
from rest_jax.evaluation.statistics import value
from rest_jax.recipes import feedback, mixture
from rest_jax.recipes.climb import Round, climbed
from rest_jax.recipes.loop import Loop
from rest_jax.recipes.summary import Measured
from rest_jax.recipes.workbench import Player

WELL_FORMED = 0.95
"""A pilot below this share confounds format with skill: the rewards of its Grow would teach both at once."""


@dataclass(frozen=True)
class Reached:
    """A policy on its way up from the pilot."""

    player: Player
    steps: int = 0
    """Optimizer steps behind it, those of the pilot left out; since the base model where it started from that."""
    made_by: int = 0
    """Whose of its generation's thresholds the step was that made it, from 1; 0: it is the policy before."""
    tokens: int = 0
    """Sampled on select on the way, to choose."""


@dataclass(frozen=True)
class Generation:
    """What one generation played, learned and became."""

    sampled: mixture.Grown
    """Its Grow as it was played."""
    grown: mixture.Grown
    """The same as its judge would have it learned; without a judge as it was played."""
    reached: Reached


@dataclass(frozen=True)
class Finished:
    """What a finished loop leaves to its controls and students."""

    rows: tuple[Measured, ...]
    """In the table's order: the pilot's first."""
    last: Measured
    """The last generation's row, as the run's own agent."""
    pilot: Player
    demonstrations: tuple[Trajectory, ...]
    generations: tuple[Generation, ...]


def rest(loop: Loop, gates: feedback.Gates) -> Finished:
    """The whole of ReST for one seed, with what its judge was found to be worth."""
    ev = loop.config.evaluate
    pilot, demonstrations = warm_start(loop)
    row = loop.measured("pilot", "pilot", pilot, ev.pilot)
    untrained = "" if demonstrations else "no demonstrations: the prompted model itself"
    rows = [replace(row, remark=untrained), *as_methods(loop, row, pilot, ev.pilot), *gate(loop, pilot)]
    reached, generations = Reached(pilot), []
    for number, generation in enumerate(loop.config.generations, 1):
        sampled = loop.grow(number, reached.player, generation.grow)
        grown = feedback.judged(loop, number, sampled, gates)
        reached, share = improve_on(loop, number, grown, generation.improve, reached, demonstrations)
        generations.append(Generation(sampled, grown, reached))
        n = ev.final if number == len(loop.config.generations) else ev.generations
        remark = "grown by the teacher" if generation.grow.policy == "teacher" and share else ""
        if not reached.made_by:
            why = "nothing was better on select" if share else "kept nothing"
            remark = f"seed {loop.seed}: {why}, the policy before it goes on"
        elif not share:
            remark = f"seed {loop.seed} kept nothing and learned from its demonstrations alone"
        remark = "; ".join(filter(None, [remark, steps_taken(loop, reached, number), grown.remark]))
        row = loop.measured(f"gen-{number}", f"gen {number}", reached.player, n)
        rows += [replace(row, kept_fraction=share, remark=remark), *as_methods(loop, row, reached.player, n)]
    return Finished(tuple(rows), row, pilot, demonstrations, tuple(generations))


def warm_start(loop: Loop) -> tuple[Player, tuple[Trajectory, ...]]:
    """The pilot, and what it learned from; without demonstrations the prompted model itself."""
    settings = loop.config.pilot
    if not settings.demonstrations:
        return loop.bench.base, ()
    replayed = loop.demonstrate(
        "demonstrations", loop.bench.task.demonstrations(settings.source, settings.demonstrations, loop.seed)
    )
    for name, of_one in mixture.by_method(replayed).items():
        if not of_one.rewarding:
            raise UserError(f"pilot: {mixture.nothing_shown(of_one, name)}, then start a new --run-dir")
    demonstrations = replayed.rewarding
    return loop.improved("pilot", loop.bench.base, demonstrations, settings.improve), demonstrations


def as_methods(loop: Loop, row: Measured, player: Player, n: int) -> list[Measured]:
    """The policy of a row as other methods play it."""
    of_row = row.name.replace(" ", "-")
    played = {
        method: loop.measured(f"{of_row}/as-{method}", f"{method}: {row.name}", player, n, method=method)
        for method in loop.config.evaluate.methods
    }
    gated = "gated by the gold answers"
    return [replace(one, remark=gated if agent(method).oracle else "") for method, one in played.items()]


def gate(loop: Loop, pilot: Player) -> list[Measured]:
    """The pilot's row on select, before anything is grown; warns when it does not keep the format. It stops
    nothing."""
    n = loop.config.evaluate.gate
    if not n:
        return []
    checked = loop.measured("pilot-gate", "pilot (select)", pilot, n, split="select")
    share = value(checked.records, "well_formed")
    if share < WELL_FORMED:
        warning(
            loop.bench.emit,
            f"seed {loop.seed}: the pilot is well-formed in {100 * share:.1f} % of {n} select trajectories, less "
            f"than {100 * WELL_FORMED:.0f} %, so Grow rewards format and skill together; raise "
            f"pilot.improve.steps or pilot.demonstrations",
        )
    return [checked]


def improve_on(
    loop: Loop,
    number: int,
    grown: mixture.Grown,
    settings: ImproveSettings,
    before: Reached,
    demonstrations: Sequence[Trajectory],
) -> tuple[Reached, float]:
    """The generation's policy, and the share of the Grow that passed the threshold that made it, or the first."""
    passed = [mixture.thresholded(grown, settings, threshold, loop.bench.emit) for threshold in settings.thresholds]
    mixes = [mixture.seeded(chosen, demonstrations, settings) for chosen in passed]
    parts = mixture.by_method(grown)
    for threshold, chosen, mix in zip(settings.thresholds, passed, mixes, strict=True):
        left_out = {name: of_one for name, of_one in parts.items() if name not in {t.agent for t in chosen}}
        for name, of_one in left_out.items():
            text = mixture.nothing_kept(of_one, threshold, demonstrated=bool(mix))
            whose = f" of {name}" if len(parts) > 1 else ""
            warning(loop.bench.emit, f"seed {loop.seed}: generation {number}{whose} {text}")
    reached = climb(loop, f"gen-{number}", before, mixes, settings)
    return reached, len(kept(grown, settings, reached)) / len(grown.trajectories)


def kept(grown: mixture.Grown, settings: ImproveSettings, reached: Reached) -> tuple[Trajectory, ...]:
    """What the threshold keeps of a Grow that made the generation's policy, or the first where nothing was better."""
    return mixture.thresholded(grown, settings, settings.thresholds[max(0, reached.made_by - 1)], silent)


def climb(
    loop: Loop, name: str, before: Reached, mixes: Sequence[Sequence[Trajectory]], settings: ImproveSettings
) -> Reached:
    """One Improve step for each threshold's mixture, rising (ReST, Algorithm 1): the last policy, or where the
    settings say so the one that was best on select.

    What one threshold leaves empty, a higher one does too: nothing is learned there, and the policy before goes on.
    """
    fed, tokens = len(list(takewhile(bool, mixes))), before.tokens
    if not fed:
        return replace(before, made_by=0)

    def improved(start: Player, attempt: Round) -> Player:
        mix, slower = mixes[attempt.step - 1], settings.at(attempt.step)
        return loop.improved(f"{name}/improve-{attempt.label}", start, mix, slower)

    def score(candidate: Player, attempt: Round) -> float:
        nonlocal tokens
        if not settings.select:  # nothing is measured: who comes later is better
            return attempt.step
        played = loop.on_select(f"{name}/select-{attempt.label}", candidate, settings.select)
        tokens += played.model_tokens
        return -math.inf if math.isnan(played.mean_reward) else played.mean_reward

    best = climbed(before.player, fed, settings.rounds, improved, score)
    steps = before.steps + best.kept * settings.steps
    if best.kept and settings.start == "base":
        steps = settings.steps
    return Reached(best.policy, steps, best.made_by, tokens)


def steps_taken(loop: Loop, reached: Reached, generations: int) -> str:
    """What a row says of its training after so many generations where it is not what their settings plan: select or an
    empty mixture decided, and rows are not compared at equal steps."""
    planned = 0
    for generation in loop.config.generations[:generations]:
        improve = generation.improve
        planned = improve.steps if improve.start == "base" else planned + len(improve.thresholds) * improve.steps
    return "" if reached.steps == planned else f"seed {loop.seed}: {reached.steps} optimizer steps instead of {planned}"
