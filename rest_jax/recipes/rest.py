"""ReST: pilot → (Grow → reward → Improve) for each generation, every policy measured.

Sources: ReST (Gulcehre et al. 2023, Algorithm 1), ReST-EM (Singh et al. 2023), ReST meets ReAct (Aksitov et al. 2023,
sections 3.3 to 3.6). Every step is a stage; a stage's inputs name all that decides it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rest_jax.config.plain import as_plain
from rest_jax.config.settings import GrowSettings, ImproveSettings, RestConfig
from rest_jax.core.demonstration import Demonstration
from rest_jax.core.errors import UserError
from rest_jax.core.events import notice, warning
from rest_jax.core.files import write_json
from rest_jax.core.trajectory import Question, Trajectory
from rest_jax.evaluation.records import Record, judge
from rest_jax.evaluation.statistics import value
from rest_jax.evaluation.table import to_json
from rest_jax.recipes import mixture
from rest_jax.recipes.environment import reward_digest
from rest_jax.recipes.improve import CHECKPOINTS, MODEL, improve
from rest_jax.recipes.seeds import derived_seed
from rest_jax.recipes.stages import Done, RunFolder, Work, discard
from rest_jax.recipes.summary import Measured
from rest_jax.recipes.workbench import TRAJECTORIES, Player, RolloutSpec, Workbench
from rest_jax.rollout import store
from rest_jax.tasks.rewards import registered_reward
from rest_jax.tasks.splits import Reader

REWARDS = "rewards.json"
RECORDS = "records.json"
WELL_FORMED = 0.95
"""A pilot below this share confounds format with skill: the rewards of its Grow would teach both at once."""


@dataclass(frozen=True)
class Finished:
    """What a finished loop leaves to its controls."""

    rows: tuple[Measured, ...]
    """In the table's order: the pilot's first, the last generation's last."""
    pilot: Player
    demonstrations: tuple[Trajectory, ...]
    grown: tuple[mixture.Grown, ...]
    """Each generation's."""


@dataclass(frozen=True)
class Loop:
    """The loop of one seed, over one run folder and one workbench."""

    config: RestConfig
    seed: int
    run: RunFolder
    bench: Workbench

    def __call__(self) -> Finished:
        """The whole loop of this seed."""
        ev, settings = self.config.evaluate, self.config.pilot
        demonstrations = self.demonstrate(
            "demonstrations", self.bench.task.demonstrations(settings.source, settings.demonstrations, self.seed)
        )
        if not demonstrations:
            raise UserError(
                f"pilot: none of the {settings.demonstrations} demonstrations found its answer with these tools; "
                f"see that the adapter serves the task's corpus (tools.url, tools.k1 …), then start a new --run-dir"
            )
        pilot = self.improved("pilot", self.bench.base, demonstrations, settings.improve)
        rows = [self.measured("pilot", "pilot", pilot, ev.pilot), *self.gate(pilot)]
        player, grown = pilot, []
        for number, generation in enumerate(self.config.generations, 1):
            grown.append(self.grow(number, player, generation.grow))
            player, kept = self.improve_on(number, grown[-1], generation.improve, player, demonstrations)
            n = ev.final if number == len(self.config.generations) else ev.generations
            remark = "" if kept else f"seed {self.seed} kept nothing and learned from its demonstrations alone"
            row = self.measured(f"gen-{number}", f"gen {number}", player, n)
            rows.append(replace(row, kept_fraction=kept, remark=remark))
        return Finished(tuple(rows), pilot, demonstrations, tuple(grown))

    # Stages

    def grow(self, number: int, player: Player, settings: GrowSettings) -> mixture.Grown:
        """Sample trajectories on train questions and reward them."""
        questions = self.grow_questions(settings)
        sampling = settings.sampling
        spec = RolloutSpec(questions, "train", settings.samples, sampling, self.seed, number)

        def work(folder: Path) -> dict[str, Any]:
            grown = self.rewarded(self.bench.play(folder, player, spec), questions)
            write_json(folder / REWARDS, grown.rewards)
            return {
                "trajectories": len(grown.trajectories),
                "masked": sum(reward is None for reward in grown.rewards.values()),
                "mean_reward": _null(grown.mean_reward),
            }

        inputs = {
            "player": named(player),
            "grow": asdict(settings),
            "generation": number,
            "reward": self._reward_named(),
        }
        return read_grown(self.stage(f"gen-{number}/grow", inputs, work))

    def improve_on(
        self,
        number: int,
        grown: mixture.Grown,
        settings: ImproveSettings,
        player: Player,
        demonstrations: Sequence[Trajectory],
    ) -> tuple[Player, float]:
        """One Improve step for each threshold, rising (ReST, Algorithm 1).

        The last policy is the generation's; with it comes the share of the Grow that passed the last threshold.
        """
        chosen: Sequence[Trajectory] = ()
        for step, threshold in enumerate(settings.thresholds, 1):
            chosen = mixture.thresholded(grown, settings, threshold, self.bench.emit)
            if not chosen and settings.include_seed:
                self._warn_of_nothing_kept(number, threshold, grown)
            mix = mixture.seeded(chosen, demonstrations, settings)
            player = self.improved(f"gen-{number}/improve-{step}", player, mix, settings)
        return player, len(chosen) / len(grown.trajectories)

    def improved(self, name: str, player: Player, mix: Sequence[Trajectory], settings: ImproveSettings) -> Player:
        """Fine-tune a player, or the base model where the settings start from it, on a mixture."""
        start = self.bench.base if settings.start == "base" else player

        def work(folder: Path) -> dict[str, Any]:
            self.bench.engine.free()  # sampling and training take turns: neither needs room beside the other
            result = improve(
                start.folder,
                mix,
                settings,
                replace(self.config.agent, bare=start.bare),
                self.config.tools,
                seed=derived_seed(self.seed, name),
                folder=folder,
                emit=self.bench.emit,
            )
            return {
                "weights_digest": result.player.weights_digest,
                "losses": list(result.losses),
                "tokens": result.tokens,
                "examples": result.examples,
            }

        inputs = {
            "start": named(start),
            "mixture": sorted(f"{t.id}@{t.weights_digest[:12]}.{t.generation}" for t in mix),
            "improve": asdict(settings),
        }
        done = self.stage(name, inputs, work)
        discard(done.folder / CHECKPOINTS)
        bare = start.bare or settings.prompt == "bare"
        return Player(done.folder / MODEL, done.results["weights_digest"], bare)

    def demonstrate(self, name: str, demonstrations: Sequence[Demonstration]) -> tuple[Trajectory, ...]:
        """Replay demonstrations through the real agent and tools; those are dropped whose answer the tools did not
        show, and those to which they showed a gold page of another split."""

        def work(folder: Path) -> dict[str, Any]:
            trajectories = self.bench.demonstrate(folder, demonstrations, "train")
            rewards = self.rewarded(trajectories, [d.question for d in demonstrations]).rewards
            # A script knows its answer: what counts is that the tools showed it.
            rewards = {t.id: rewards[t.id] if mixture.is_sound(t) else 0.0 for t in trajectories}
            write_json(folder / REWARDS, rewards)
            good = sum(1 for reward in rewards.values() if reward)
            notice(self.bench.emit, f"{good} of {len(trajectories)} demonstrations found their answer with these tools")
            return {"trajectories": len(trajectories), "good": good}

        inputs = {
            "source": self.config.pilot.source,
            "questions": [d.question.id for d in demonstrations],
            "reward": self._reward_named(),
        }
        grown = read_grown(self.stage(name, inputs, work))
        return tuple(t for t in grown.trajectories if grown.rewards[t.id])

    def gate(self, pilot: Player) -> list[Measured]:
        """The pilot's row on select, before anything is grown; warns when it does not keep the format. It stops
        nothing."""
        n = self.config.evaluate.gate
        if not n:
            return []
        checked = self.measured("pilot-gate", "pilot (select)", pilot, n, split="select")
        share = value(checked.records, "well_formed")
        if share < WELL_FORMED:
            warning(
                self.bench.emit,
                f"seed {self.seed}: the pilot is well-formed in {100 * share:.1f} % of {n} select trajectories, less "
                f"than {100 * WELL_FORMED:.0f} %, so Grow rewards format and skill together; raise "
                f"pilot.improve.steps or pilot.demonstrations",
            )
        return [checked]

    def measured(
        self,
        stage: str,
        name: str,
        player: Player,
        n: int,
        *,
        split: str | None = None,
        method: str | None = None,
    ) -> Measured:
        """Evaluate a player, greedily, on the first n questions of a split, else the evaluation's (as `method`, if
        named)."""
        split = split or self.config.evaluate.split
        questions = self.bench.task.questions(split, Reader.EVALUATION, n)

        def work(folder: Path) -> dict[str, Any]:
            spec = RolloutSpec(questions, split, seed=self.seed)
            records = self.judged(self.bench.play(folder, player, spec, method), questions)
            return recorded(folder, records)

        inputs = {"player": named(player), "split": split, "n": n, "method": method}
        done = self.stage(f"{stage}/evaluate-{split}", inputs, work)
        return read_measured(done, name, player.weights_digest)

    # Parts

    def stage(self, name: str, inputs: Mapping[str, Any], work: Work) -> Done:
        """A stage of this seed. Its inputs gain what every stage depends on, its results the splits that it read."""
        task = self.bench.task
        common = {
            "seed": self.seed,
            "agent": asdict(self.config.agent),
            "engine": as_plain(self.config.engine, decisive=True),
        }
        if self.config.tools.config is not None:  # the settings name a file alone: its tools say what they are
            common["tools"] = dict(self.bench.versions)

        def noted(folder: Path) -> dict[str, Any]:
            results = dict(work(folder))
            return {**results, "splits_read": [asdict(read) for read in task.reads.drain()]}

        done = self.run.stage(f"seed-{self.seed}/{name}", {**common, "data": task.digests(), **inputs}, noted)
        task.reads.drain()  # what was read for a stage that was done already
        return done

    def grow_questions(self, settings: GrowSettings) -> Sequence[Question]:
        return self.bench.task.questions("train", Reader.TRAINING, settings.questions)

    def rewarded(self, trajectories: Sequence[Trajectory], questions: Sequence[Question]) -> mixture.Grown:
        task = self.bench.task
        return mixture.rewarded(trajectories, questions, task, self.config.task.reward, self.bench.emit)

    def judged(self, trajectories: Sequence[Trajectory], questions: Sequence[Question]) -> tuple[Record, ...]:
        return judge(trajectories, {question.id: question for question in questions}, self.bench.task.score)

    def _reward_named(self) -> str:
        """The reward's name, with the digest of its source where it is a user's own."""
        name = self.config.task.reward
        return name if name == "default" else f"{name} {reward_digest(registered_reward(name))}"

    def _warn_of_nothing_kept(self, number: int, threshold: float, grown: mixture.Grown) -> None:
        best = max((reward for reward in grown.rewards.values() if reward is not None), default=math.nan)
        warning(
            self.bench.emit,
            f"seed {self.seed}: generation {number} keeps nothing over threshold {threshold:g} (best reward "
            f"{best:.3g}) and learns from its demonstrations alone, as control A does; lower improve.thresholds, or "
            f"raise grow.samples or grow.questions",
        )


def recorded(folder: Path, records: Sequence[Record]) -> dict[str, Any]:
    """Leave records behind, for `read_measured`; returns a stage's results."""
    write_json(folder / RECORDS, [to_json(record) for record in records])
    return {
        "n": len(records),
        "em": _null(value(records, "em")),
        "well_formed": _null(value(records, "well_formed")),
    }


def read_grown(done: Done) -> mixture.Grown:
    """The trajectories and rewards that a stage left behind."""
    trajectories = store.read(done.folder / TRAJECTORIES)
    return mixture.Grown(tuple(trajectories), json.loads((done.folder / REWARDS).read_text(encoding="utf-8")))


def read_measured(done: Done, name: str, weights: str) -> Measured:
    """The records that an evaluation left behind."""
    records = json.loads((done.folder / RECORDS).read_text(encoding="utf-8"))
    return Measured(name, done.inputs["split"], tuple(Record(**record) for record in records), weights, done.seconds)


def named(player: Player) -> dict[str, Any]:
    """A player as a stage's input."""
    return {"weights_digest": player.weights_digest, "bare": player.bare}


def _null(number: float) -> float | None:
    return None if math.isnan(number) else number
