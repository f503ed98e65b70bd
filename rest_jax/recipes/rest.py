"""ReST: prompted → pilot → (Grow → reward → Improve) for each generation, with controls at equal budget.

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

from rest_jax.agents.demonstration import Demonstration
from rest_jax.config.settings import GenerationSettings, ImproveSettings, RestConfig
from rest_jax.core.effects import Sampling
from rest_jax.core.events import notice, silent, warning
from rest_jax.core.files import write_json
from rest_jax.core.trajectory import Question, Trajectory
from rest_jax.evaluation.records import Record, judge
from rest_jax.evaluation.statistics import value
from rest_jax.evaluation.table import to_json
from rest_jax.recipes import mixture, plan
from rest_jax.recipes.improve import CHECKPOINTS, MODEL, improve
from rest_jax.recipes.seeds import derived_seed
from rest_jax.recipes.stages import Done, RunFolder, Work, discard
from rest_jax.recipes.summary import Measured
from rest_jax.recipes.workbench import TRAJECTORIES, Player, Sitting, Workbench
from rest_jax.rollout import store
from rest_jax.tasks.splits import Reader

REWARDS = "rewards.json"
RECORDS = "records.json"
WELL_FORMED = 0.95
"""A pilot below this share confounds format with skill: the rewards of its Grow would teach both at once."""


@dataclass(frozen=True)
class Made:
    """What a finished loop has, for its controls: the pilot, what was learned from, and what was measured."""

    pilot: Player
    demonstrations: Sequence[Trajectory]
    grown: tuple[mixture.Grown, ...]
    pilot_records: Sequence[Record]
    final_records: Sequence[Record]


@dataclass(frozen=True)
class Loop:
    """The loop of one seed, over one run folder and one workbench."""

    config: RestConfig
    seed: int
    run: RunFolder
    bench: Workbench

    def __call__(self) -> list[Measured]:
        """All rows of this seed, in the table's order."""
        ev, bench = self.config.evaluate, self.bench
        pilot_settings = self.config.pilot
        demonstrations = self.demonstrate(
            "demonstrations", bench.task.demonstrations(pilot_settings.source, pilot_settings.demonstrations, self.seed)
        )
        pilot = self.improved("pilot", bench.base, demonstrations, pilot_settings.improve)
        measured = self.measured("pilot", "pilot", pilot, ev.pilot)
        rows = [measured, *self.gate(pilot)]
        player, grown_by_generation = pilot, []
        for number, generation in enumerate(self.config.generations, 1):
            grown = self.grow(f"gen-{number}/grow", player, generation, number)
            grown_by_generation.append(grown)
            player, kept = self.improve_on(number, grown, generation.improve, player, demonstrations)
            n = ev.final if number == len(self.config.generations) else ev.generations
            rows.append(self.measured(f"gen-{number}", f"gen {number}", player, n, kept_fraction=kept))
        made = Made(pilot, demonstrations, tuple(grown_by_generation), measured.records, rows[-1].records)
        return rows + [self.control(name, made) for name in self.config.evaluate.controls]

    # Stages

    def grow(self, name: str, player: Player, generation: GenerationSettings, number: int) -> mixture.Grown:
        """Sample trajectories on train questions and reward them."""
        settings = generation.grow
        questions = self.grow_questions(generation)
        sampling = Sampling(settings.temperature, settings.top_k, settings.top_p)
        sitting = Sitting(questions, "train", settings.samples, sampling, self.seed, number)

        def work(folder: Path) -> dict[str, Any]:
            trajectories = self.bench.play(folder, player, sitting)
            grown = self.rewarded(trajectories, questions)
            write_json(folder / REWARDS, grown.rewards)
            return {"trajectories": len(trajectories), "mean_reward": _null(grown.mean_reward)}

        done = self.stage(name, {"player": _named(player), "grow": asdict(settings), "generation": number}, work)
        return read_grown(done)

    def improve_on(
        self,
        number: int,
        grown: mixture.Grown,
        settings: ImproveSettings,
        player: Player,
        demonstrations: Sequence[Trajectory],
    ) -> tuple[Player, float]:
        """One Improve step for each threshold, rising (ReST, Algorithm 1); the last policy is the generation's."""
        kept = 0.0
        for step, threshold in enumerate(settings.thresholds, 1):
            chosen = mixture.thresholded(grown, settings, threshold, self.bench.emit)
            kept = mixture.kept_fraction(grown, settings, threshold)
            start = self.bench.base if settings.start == "base" else player
            seeded = [*demonstrations, *chosen] if settings.include_seed else chosen
            player = self.improved(f"gen-{number}/improve-{step}", start, seeded, settings)
        return player, kept

    def improved(self, name: str, start: Player, mix: Sequence[Trajectory], settings: ImproveSettings) -> Player:
        """Fine-tune a player on a mixture."""

        def work(folder: Path) -> dict[str, Any]:
            result = improve(
                start.folder,
                mix,
                settings,
                replace(self.config.agent, bare=start.bare),
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
            "start": _named(start),
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
            held_out = self.bench.task.held_out_pages
            rewards = {t.id: rewards[t.id] if mixture.is_sound(t, held_out) else 0.0 for t in trajectories}
            write_json(folder / REWARDS, rewards)
            good = sum(1 for reward in rewards.values() if reward)
            notice(self.bench.emit, f"{good} of {len(trajectories)} demonstrations found their answer with these tools")
            return {"trajectories": len(trajectories), "good": good}

        inputs = {"source": self.config.pilot.source, "questions": [d.question.id for d in demonstrations]}
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
        kept_fraction: float = math.nan,
        method: str | None = None,
    ) -> Measured:
        """Evaluate a player, greedily, on the first n questions of a split, else the evaluation's (as `method`, if
        named)."""
        split = split or self.config.evaluate.split
        questions = self.bench.task.questions(split, Reader.EVALUATION, n)

        def work(folder: Path) -> dict[str, Any]:
            sitting = Sitting(questions, split, seed=self.seed)
            return self.judged(folder, self.bench.play(folder, player, sitting, method), questions)

        inputs = {"player": _named(player), "split": split, "n": n, "method": method}
        done = self.stage(f"{stage}/evaluate-{split}", inputs, work)
        return read_measured(done, name, player.weights_digest, kept_fraction)

    # Controls at equal budget

    def control(self, name: str, made: Made) -> Measured:
        """One control. A, B and D are the loop itself (same steps, rates and resets) on another mixture."""
        match name:
            case "more_pilot":
                row = "A more pilot"
                mixtures = [made.demonstrations for _ in self.config.generations]
            case "random_samples":
                row = "B random samples"
                mixtures = [self.randomly(made, number) for number in range(len(self.config.generations))]
            case "gold":
                row = "D gold"
                mixtures = [self.golden(made, number) for number in range(len(self.config.generations))]
            case _:
                return self.majority(made)
        player = made.pilot
        for number, (generation, mix) in enumerate(zip(self.config.generations, mixtures, strict=True), 1):
            settings = generation.improve
            for step in range(1, len(settings.thresholds) + 1):
                start = self.bench.base if settings.start == "base" else player
                player = self.improved(f"control-{name}/gen-{number}/improve-{step}", start, mix, settings)
        return self.measured(f"control-{name}", row, player, self.config.evaluate.final)

    def randomly(self, made: Made, number: int) -> Sequence[Trajectory]:
        """B's mixture: as many well-formed pilot samples as this generation kept, chosen without their reward."""
        settings = self.config.generations[number].improve
        kept = len(mixture.thresholded(made.grown[number], settings, settings.thresholds[-1], silent))
        seed = derived_seed(self.seed, "random_samples", number)
        chosen = mixture.random_well_formed(made.grown[0], kept, seed)
        return [*made.demonstrations, *chosen] if settings.include_seed else chosen

    def golden(self, made: Made, number: int) -> Sequence[Trajectory]:
        """D's mixture: gold demonstrations of the questions that this generation sampled, a ceiling."""
        generation = self.config.generations[number]
        asked = {question.id for question in self.grow_questions(generation)}
        chosen = tuple(d for d in self.bench.task.sources["gold"] if d.question.id in asked)
        replayed = self.demonstrate(f"control-gold/demonstrations-{number + 1}", chosen)
        return [*made.demonstrations, *replayed] if generation.improve.include_seed else replayed

    def majority(self, made: Made) -> Measured:
        """C: the majority of as many pilot samples a question as the sampled tokens of the whole loop would buy.

        The loop's tokens are those of all Grows and of its final evaluation; at least three samples vote.
        """
        ev, grow = self.config.evaluate, self.config.generations[0].grow
        questions = self.bench.task.questions(ev.split, Reader.EVALUATION, ev.final)
        sampling = Sampling(grow.temperature, grow.top_k, grow.top_p)
        spent = sum(t.model_tokens for grown in made.grown for t in grown.trajectories)
        spent += sum(record.model_tokens for record in made.final_records)
        one = sum(record.model_tokens for record in made.pilot_records) / len(made.pilot_records)
        samples = max(plan.FEWEST_VOTES, round(spent / (one * len(questions))))

        def work(folder: Path) -> dict[str, Any]:
            sitting = Sitting(questions, ev.split, samples, sampling, self.seed)
            return self.judged(folder, mixture.majority(self.bench.play(folder, made.pilot, sitting)), questions)

        inputs = {"player": _named(made.pilot), "split": ev.split, "n": ev.final, "samples": samples}
        done = self.stage(f"control-majority/evaluate-{ev.split}", inputs, work)
        return read_measured(done, "C majority", made.pilot.weights_digest)

    # Parts

    def stage(self, name: str, inputs: Mapping[str, Any], work: Work) -> Done:
        """A stage of this seed. Its inputs gain what every stage depends on, its results the splits that it read."""
        task = self.bench.task
        common = {"seed": self.seed, "agent": asdict(self.config.agent), "engine": asdict(self.config.engine)}

        def recorded(folder: Path) -> dict[str, Any]:
            results = dict(work(folder))
            return {**results, "splits_read": [asdict(read) for read in task.reads.drain()]}

        done = self.run.stage(f"seed-{self.seed}/{name}", {**common, "data": task.digests(), **inputs}, recorded)
        task.reads.drain()  # what was read for a stage that was done already
        return done

    def grow_questions(self, generation: GenerationSettings) -> Sequence[Question]:
        return self.bench.task.questions("train", Reader.TRAINING, generation.grow.questions)

    def rewarded(self, trajectories: Sequence[Trajectory], questions: Sequence[Question]) -> mixture.Grown:
        return mixture.rewarded(trajectories, questions, self.bench.task.reward(self.config.task.reward))

    def judged(self, folder: Path, trajectories: Sequence[Trajectory], questions: Sequence[Question]) -> dict[str, Any]:
        records = judge(trajectories, {question.id: question for question in questions}, self.bench.task.score)
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


def read_measured(done: Done, name: str, weights: str, kept_fraction: float = math.nan) -> Measured:
    """The records that an evaluation left behind."""
    records = json.loads((done.folder / RECORDS).read_text(encoding="utf-8"))
    made = tuple(Record(**record) for record in records)
    return Measured(name, done.inputs["split"], made, weights, done.seconds, kept_fraction)


def _named(player: Player) -> dict[str, Any]:
    return {"weights_digest": player.weights_digest, "bare": player.bare}


def _null(number: float) -> float | None:
    return None if math.isnan(number) else number
