"""Preflight: two minutes that say whether a run is worth its hours."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from rest_jax.config.policies import PoliciesSettings
from rest_jax.config.settings import GrowSettings, ImproveSettings, RestConfig
from rest_jax.core.events import Listener, silent
from rest_jax.evaluation.records import judge
from rest_jax.evaluation.samples import AT_FIRST, OF_SEVERAL, Estimate, learnable, passes
from rest_jax.evaluation.statistics import smallest_effect
from rest_jax.evaluation.table import to_json
from rest_jax.recipes import plan
from rest_jax.recipes.agent_file import agent_of
from rest_jax.recipes.calibrate import measured_rates
from rest_jax.recipes.endpoints import REPLIES
from rest_jax.recipes.loop import grow_spec
from rest_jax.recipes.mixture import Grown, rewarded, thresholded
from rest_jax.recipes.players import models_of_run
from rest_jax.recipes.rehearsal import bound, rehearse, work
from rest_jax.recipes.run import refuse_too_few
from rest_jax.recipes.stages import held, is_run
from rest_jax.recipes.workbench import Player, Workbench, open_workbench
from rest_jax.reporting.table import rate
from rest_jax.tasks.registry import task as open_task
from rest_jax.tasks.splits import Reader


@dataclass(frozen=True)
class Preflight:
    """What a look at a few questions predicts."""

    questions: int
    samples: int
    statuses: dict[str, int]
    pass_at: Mapping[int, Estimate]
    """Of the agent's own method."""
    kept: dict[float, float]
    """Threshold → trajectories that the first Grow would keep, extrapolated."""
    minutes: float
    bound: str
    """How these minutes are meant: about so many, or at least."""
    memory: str
    """A line about what the devices will hold."""
    smallest_effect: float
    """The smallest difference in EM between two rows of the last generation's n that would show (power 0.8)."""
    advice: str

    def lines(self) -> list[str]:
        """The result for a person."""
        kept = ", ".join(f"τ {tau:g}: about {count:.0f}" for tau, count in self.kept.items())
        endings = ", ".join(f"{status} {count}" for status, count in sorted(self.statuses.items()))
        return [
            f"{self.questions} train questions, {self.samples} samples each: {endings}",
            ", ".join(rate(f"pass@{k}", to_json(of)) for k, of in self.pass_at.items()),
            *([self._gate()] if self.samples > 1 else []),
            f"first Grow would keep {kept}",
            f"the whole run takes {self.bound} {self.minutes:.0f} min here",
            self.memory,
            f"EM differences below {100 * self.smallest_effect:.1f} points will not show at this n (power 0.8)",
            self.advice,
        ]

    def _gate(self) -> str:
        """Whether there is something to learn from (docs/methods.md)."""
        first, several = self.pass_at[1].value, self.pass_at[self.samples].value
        return (
            f"gate {'passed' if learnable(first, several) else 'not passed'}: pass@1 {100 * first:.1f} % of at least "
            f"{100 * AT_FIRST:.0f} %, pass@{self.samples} {100 * several:.1f} % of at least {OF_SEVERAL:g} x pass@1, "
            f"{100 * OF_SEVERAL * first:.1f} %"
        )


def estimate(
    config: RestConfig,
    run_dir: Path,
    *,
    questions: int,
    samples: int,
    offline: bool = False,
    emit: Listener,
) -> Preflight:
    """`preflight` with the run's pilot, where its folder has one, else with the prompted model.

    What endpoints say is kept in the run's folder, where the run finds it. Raises UserError when another process works
    there, and for what the run would be refused for.
    """
    pilot = models_of_run(run_dir).get("pilot") if is_run(run_dir) else None
    task = open_task(config.task)
    refuse_too_few(config, task)
    opened = open_workbench(
        task,
        model=replace(config.model, name=pilot or config.model.name),
        agent_settings=agent_of(Path(pilot)) if pilot else config.agent,
        engine=config.engine,
        tools=config.tools,
        emit=emit,
        offline=offline,
        improves=config.improves,
        policies=config.policies,
        replies=run_dir / REPLIES,
    )
    asks = config.policies != PoliciesSettings()
    with (
        held(run_dir) if asks else nullcontext(),
        opened as bench,
        tempfile.TemporaryDirectory(prefix="rest_jax-") as scratch,
    ):
        rehearse(config, task, bench.engine.codec)
        return preflight(config, bench, Path(scratch), bench.base, questions=questions, samples=samples)


def preflight(
    config: RestConfig, bench: Workbench, folder: Path, player: Player, *, questions: int, samples: int
) -> Preflight:
    """Sample a few train questions as the first Grow would, and say what follows.

    `player` is the policy that grows: the prompted model, or the pilot of a run that has one.
    """
    grow = config.generations[0].grow
    asked = bench.task.questions("train", Reader.TRAINING, questions)
    spec = grow_spec(config.agent, replace(grow, samples=samples), asked, config.seeds[0], 1)
    trajectories = bench.play(folder, player, spec)
    grown = rewarded(trajectories, asked, bench.task, config.task.reward, bench.emit)
    own = [t for t in trajectories if t.agent == config.agent.name]
    records = judge(own, {question.id: question for question in asked}, bench.task.score, bench.task.voice)
    planned = work(config, bench.task, bench.engine.codec)
    bench.compile(bench.cast(bare=True), sharing=False)
    improve = config.generations[0].improve
    kept = {
        tau: expected(grown, improve, tau, grow, samples) * grow.questions / len(asked) for tau in improve.thresholds
    }
    return Preflight(
        questions=len(asked),
        samples=samples,
        statuses=dict(Counter(t.status.value for t in trajectories)),
        pass_at=passes(records, config.agent.name, samples),
        kept=kept,
        minutes=plan.seconds(planned, measured_rates(bench.engine)) / 60,
        bound=bound(config),
        memory=bench.memory.line(config.engine),
        smallest_effect=smallest_effect(config.evaluate.final),
        advice=_advice(config, player, kept),
    )


def expected(grown: Grown, improve: ImproveSettings, threshold: float, grow: GrowSettings, samples: int) -> float:
    """How many the Grow would keep of these questions, of which there are so many samples instead of its own."""
    passing = thresholded(grown, replace(improve, per_question=None), threshold, silent)
    most = math.inf if improve.per_question is None else improve.per_question
    of_each = Counter((t.agent, t.question_id) for t in passing)
    return sum(min(most, count * grow.samples / samples) for count in of_each.values())


def _advice(config: RestConfig, player: Player, kept: dict[float, float]) -> str:
    if any(kept.values()):
        return "the reward has something to keep"
    if config.generations[0].grow.policy == "teacher":
        return "the reward has nothing to keep from the teacher: raise agent.shots or samples, or ask another one"
    if not player.bare and config.pilot.demonstrations:
        return (
            "the reward has nothing to keep from the prompted model: the run relies on its pilot of "
            f"{config.pilot.demonstrations} demonstrations; look again after it with --run-dir"
        )
    return "the reward has nothing to keep: lower the threshold, raise samples or temperature, or add demonstrations"
