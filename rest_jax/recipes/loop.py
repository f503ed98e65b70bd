"""What a loop is made of: the steps of one seed, each a stage whose inputs name all that decides it.

ReST, its controls and its students are these steps in some order, on some mixture.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rest_jax.agents.registry import agent
from rest_jax.config.settings import AgentSettings, GrowSettings, ImproveSettings, RestConfig
from rest_jax.core.canonical import digest
from rest_jax.core.demonstration import Demonstration
from rest_jax.core.effects import Role
from rest_jax.core.events import notice
from rest_jax.core.files import write_json
from rest_jax.core.trajectory import Question, Trajectory
from rest_jax.evaluation.records import Record, judge
from rest_jax.evaluation.statistics import value
from rest_jax.evaluation.table import to_json
from rest_jax.recipes import mixture
from rest_jax.recipes.improve import CHECKPOINTS, MODEL, improve
from rest_jax.recipes.inputs import common_inputs
from rest_jax.recipes.seeds import derived_seed
from rest_jax.recipes.stages import Done, RunFolder, Work, discard
from rest_jax.recipes.summary import Measured
from rest_jax.recipes.weighting import Worth
from rest_jax.recipes.workbench import TRAJECTORIES, Actor, Bench, Player, RolloutSpec
from rest_jax.rollout import store
from rest_jax.tasks.rewards import named_reward
from rest_jax.tasks.splits import Reader, Split

REWARDS = "rewards.json"
RECORDS = "records.json"
SEARCHES = frozenset({"search", "lookup"})
"""The tools that show passages."""


@dataclass(frozen=True)
class Loop:
    """The steps of one seed, over one run folder and one workbench."""

    config: RestConfig
    seed: int
    run: RunFolder
    bench: Bench

    def grow(self, number: int, player: Player, settings: GrowSettings) -> mixture.Grown:
        """Sample trajectories on train questions and reward them."""
        questions = self.grow_questions(settings)
        spec = grow_spec(self.config.agent, settings, questions, self.seed, number)

        def work(folder: Path) -> dict[str, Any]:
            grown = self.rewarded(self.bench.play(folder, player, spec), questions)
            write_json(folder / REWARDS, grown.rewards)
            return {
                "trajectories": len(grown.trajectories),
                "masked": sum(reward is None for reward in grown.rewards.values()),
                "mean_reward": _null(grown.mean_reward),
            }

        inputs = {
            "player": self._acting(player, settings.policy),
            "grow": settings,
            "generation": number,
            "reward": named_reward(self.config.task.reward),
        }
        return read_grown(self.stage(f"gen-{number}/grow", inputs, work))

    def on_select(self, stage: str, player: Player, n: int) -> mixture.Grown:
        """A player's trajectories on the first n questions of select, drawn as in evaluation, with the task's reward:
        no judge has a say in what is compared with what."""
        questions = self.bench.task.questions("select", Reader.SELECTION, n)
        asked = {question.id: question for question in questions}
        worth = self.bench.task.reward(self.config.task.reward)

        def work(folder: Path) -> dict[str, Any]:
            played = self.bench.play(folder, player, RolloutSpec(questions, "select", seed=self.seed))
            # Gold pages of select are held out from what is learnt, and are meant to be seen here.
            scored = mixture.Grown(tuple(played), {t.id: worth(t, asked[t.question_id]) for t in played})
            write_json(folder / REWARDS, scored.rewards)
            return {"mean_reward": _null(scored.mean_reward)}

        inputs = {"player": named(player), "split": "select", "n": n, "reward": named_reward(self.config.task.reward)}
        return read_grown(self.stage(stage, inputs, work))

    def improved(self, name: str, player: Player, mix: Sequence[Trajectory], settings: ImproveSettings) -> Player:
        """Fine-tune a player, or the base model where the settings start from it, on a mixture."""
        start = self.bench.base if settings.start == "base" else player
        mixture.refuse_leaks(mix, self.bench.task)

        def work(folder: Path) -> dict[str, Any]:
            self.bench.free()  # sampling and training take turns: neither needs room beside the other
            result = improve(
                start.folder,
                mix,
                settings,
                replace(self.config.agent, bare=start.bare),
                self.config.tools,
                seed=derived_seed(self.seed, name),
                folder=folder,
                worth=self._worth(),
                emit=self.bench.emit,
                group=self.run.group,
            )
            self.bench.hand_over(result.player, result.params)
            return {
                "weights_digest": result.player.weights_digest,
                "losses": list(result.losses),
                "tokens": result.tokens,
                "examples": result.examples,
            }

        inputs: dict[str, Any] = {
            "start": named(start),
            "mixture": sorted(f"{t.id}@{t.weights_digest[:12]}.{t.generation}" for t in mix),
            "improve": settings,
        }
        if self.config.judge is not None:  # the same trajectories may be learned with other targets
            inputs["targets"] = digest(sorted([t.id, t.generation, [call.chosen for call in t.calls]] for t in mix))
        done = self.stage(name, inputs, work)
        discard(done.folder / CHECKPOINTS)
        bare = start.bare or settings.prompt == "bare"
        return Player(done.folder / MODEL, done.results["weights_digest"], bare)

    def demonstrate(self, name: str, demonstrations: Sequence[Demonstration]) -> mixture.Grown:
        """Replay demonstrations through the real agents and tools; those of agents that search earn nothing whose
        answer the tools did not show, nor do those to which they showed a gold page of another split."""

        def work(folder: Path) -> dict[str, Any]:
            trajectories = self.bench.demonstrate(folder, demonstrations, "train")
            rewards = self.rewarded(trajectories, [d.question for d in demonstrations]).rewards
            # A script knows its answer: what counts is that the tools showed it.
            rewards = {t.id: rewards[t.id] if not _searches(t) or mixture.is_sound(t) else 0.0 for t in trajectories}
            write_json(folder / REWARDS, rewards)
            good = sum(1 for reward in rewards.values() if reward)
            notice(self.bench.emit, f"{good} of {len(trajectories)} demonstrations found their answer with these tools")
            return {"trajectories": len(trajectories), "good": good}

        inputs = {
            "source": self.config.pilot.source,
            "questions": [d.question.id for d in demonstrations],
            "reward": named_reward(self.config.task.reward),
        }
        return read_grown(self.stage(name, inputs, work))

    def measured(
        self,
        stage: str,
        name: str,
        player: Player,
        n: int,
        *,
        split: str | None = None,
        method: str | None = None,
        policy: Actor = "actor",
        candidates: int | None = None,
    ) -> Measured:
        """Evaluate a player, or the teacher in its place, on the first n questions of a split, else the evaluation's
        (as `method`, or with so many `candidates` a step, if named); greedily, unless the agent has a temperature."""
        split = split or self.config.evaluate.split
        questions = self.bench.task.questions(split, Reader.EVALUATION, n)

        def work(folder: Path) -> dict[str, Any]:
            methods = (method or self.config.agent.name,)
            spec = RolloutSpec(questions, split, seed=self.seed, policy=policy, candidates=candidates, methods=methods)
            records = self.judged(self.bench.play(folder, player, spec), questions)
            return recorded(folder, records)

        acting = self._acting(player, policy)
        inputs = {"player": acting, "split": split, "n": n, "method": method}
        if candidates is not None:
            inputs["candidates"] = candidates
        done = self.stage(f"{stage}/evaluate-{split}", inputs, work)
        return read_measured(done, name, acting["weights_digest"])

    # Parts

    def stage(self, name: str, inputs: Mapping[str, Any], work: Work) -> Done:
        """A stage of this seed. Its inputs gain what every stage depends on, its results the splits that it read."""
        task = self.bench.task
        plays = [inputs["method"]] if inputs.get("method") else self.config.agent.methods
        common = common_inputs(task, self.config.agent, self.config.engine, self.seed, plays)
        if self.config.tools.config is not None:  # the settings name a file alone: its tools say what they are
            common["tools"] = dict(self.bench.versions)

        def noted(folder: Path) -> dict[str, Any]:
            results = dict(work(folder))
            return {**results, "splits_read": [asdict(read) for read in task.reads.drain()]}

        done = self.run.stage(f"seed-{self.seed}/{name}", {**common, **inputs}, noted)
        task.reads.drain()  # what was read for a stage that was done already
        return done

    def grow_questions(self, settings: GrowSettings) -> Sequence[Question]:
        return self.bench.task.questions("train", Reader.TRAINING, settings.questions)

    def rewarded(self, trajectories: Sequence[Trajectory], questions: Sequence[Question]) -> mixture.Grown:
        task = self.bench.task
        return mixture.rewarded(trajectories, questions, task, self.config.task.reward, self.bench.emit)

    def judged(self, trajectories: Sequence[Trajectory], questions: Sequence[Question]) -> tuple[Record, ...]:
        return judge(
            trajectories,
            {question.id: question for question in questions},
            self.bench.task.score,
            self.bench.task.voice,
        )

    def _worth(self) -> Worth:
        """What an answer is worth by the task's metric, in trajectories on questions that may be learned."""
        task = self.bench.task
        shown = (demonstration.question for source in task.sources.values() for demonstration in source)
        asked = {question.id: question for question in (*shown, *task.splits.get(Split.TRAIN, ()))}
        return lambda trajectory, answer: task.score(answer, asked[trajectory.question_id]).em

    def _acting(self, player: Player, policy: Actor) -> Mapping[str, Any]:
        """Who acts, as a stage's input."""
        return named(player) if policy == "actor" else self.bench.named(Role.TEACHER)


def grow_spec(
    agent: AgentSettings, grow: GrowSettings, questions: Sequence[Question], seed: int, generation: int
) -> RolloutSpec:
    """What a Grow plays."""
    return RolloutSpec(
        questions,
        "train",
        grow.samples,
        grow.sampling(agent),
        seed,
        generation,
        grow.policy,
        grow.candidates,
        agent.methods,
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
    """The trajectories that a stage left behind, and their rewards where it gave any."""
    file = done.folder / REWARDS
    rewards = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return mixture.Grown(tuple(store.read(done.folder / TRAJECTORIES)), rewards)


def read_measured(done: Done, name: str, weights: str) -> Measured:
    """The records that an evaluation left behind."""
    records = json.loads((done.folder / RECORDS).read_text(encoding="utf-8"))
    return Measured(name, done.inputs["split"], tuple(Record(**record) for record in records), weights, done.seconds)


def _searches(trajectory: Trajectory) -> bool:
    """Whether its agent finds its answers; what other tools say of them, a score or a game's end, shows none."""
    return not SEARCHES.isdisjoint(agent(trajectory.agent).tools)


def named(player: Player) -> dict[str, Any]:
    """A player as a stage's input."""
    return {"weights_digest": player.weights_digest, "bare": player.bare}


def _null(number: float) -> float | None:
    return None if math.isnan(number) else number
