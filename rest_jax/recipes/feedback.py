"""AI feedback on a Grow: its steps ranked, its answers judged, by a judge that has proved itself on labelled pairs.

Each is a stage: what the judge says are trajectories, so a killed run asks nothing twice and a recording replays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rest_jax.agents.judges import equivalence, ranking
from rest_jax.agents.judges.labels import Kind, read_labels
from rest_jax.config.judges import AnswersSettings, JudgeSettings, RankingSettings
from rest_jax.config.settings import RestConfig
from rest_jax.core.answers import normalise
from rest_jax.core.canonical import digest, digest_file
from rest_jax.core.effects import Role, Sampling, Status
from rest_jax.core.errors import UserError
from rest_jax.core.events import notice, warning
from rest_jax.core.trajectory import Trajectory
from rest_jax.evaluation.judging import Qualification, Spread, balanced_accuracy, over_repetitions
from rest_jax.recipes.asking import (
    Answers,
    Matter,
    answers_of,
    equivalence_of,
    hear,
    of_labels,
    on_answer,
    verdicts_on,
)
from rest_jax.recipes.loop import Loop
from rest_jax.recipes.mixture import Grown
from rest_jax.recipes.stages import Done
from rest_jax.recipes.workbench import HEARD
from rest_jax.rollout import store
from rest_jax.tasks.combined import Part, combined
from rest_jax.tasks.splits import Split
from rest_jax.tasks.task import Task
from rest_jax.training.targets import Contest, contests, retargeted

WORDS: Mapping[Kind, Callable[[], str]] = {"answers": equivalence.prompt_words, "ranking": ranking.prompt_words}
Settings = RankingSettings | AnswersSettings
Gates = Mapping[Kind, Qualification]


def check_labels(settings: JudgeSettings | None, task: Task) -> None:
    """Raises UserError for a file of labelled pairs that cannot be read, or that asks what is measured on report: at a
    run's start rather than after a Grow."""
    measured = {normalise(question.text): question.id for question in task.splits.get(Split.REPORT, ())}
    for kind, wanted in _wanted(settings):
        for pair in read_labels(Path(wanted.gate.labels), kind):
            if asked := pair.asks(measured):
                raise UserError(
                    f"{wanted.gate.labels}: a pair asks question {measured[asked]} of report, on which a run is "
                    f"measured; label pairs of train or select in its place"
                )


def gates(loop: Loop) -> Gates:
    """What the judge is asked for, each tried on its labelled pairs."""
    return {kind: _qualified(loop, kind, settings) for kind, settings in _wanted(loop.config.judge)}


def judged(loop: Loop, number: int, grown: Grown, gates: Gates) -> Grown:
    """The Grow as its judge would have it learned: best candidates for targets, rewards combined with its verdicts.

    What has not qualified changes nothing, and the remark says so in its place.
    """
    wanted: dict[Kind, Settings] = dict(_wanted(loop.config.judge))
    trusted: dict[Kind, Settings] = {kind: settings for kind, settings in wanted.items() if gates[kind].qualified}
    heard = _heard(loop, number, grown, trusted) if trusted else {}
    remarks = []
    for kind, settings in wanted.items():
        result: str | Spread = "…"
        if kind in trusted:
            grown, result = _heeded(grown, heard, settings)
        remarks.append(f"judge's {kind}: {gates[kind].cell(result)}")
    return replace(grown, remark="; ".join(remarks))


def as_learned(grown: Grown, stage: Done, config: RestConfig, stages: Sequence[Done]) -> Grown:
    """What a finished stage of a run played, as the run learned from it: with what the judge said of a Grow, where its
    word counted."""
    judged = next((done for done in stages if done.name == f"{stage.name.removesuffix('grow')}judged"), None)
    if judged is None:
        return grown
    heard = answers_of(store.read(judged.folder / HEARD))
    for kind, settings in _wanted(config.judge):
        if kind in judged.inputs["trusted"]:
            grown, _ = _heeded(grown, heard, settings)
    return grown


def _heeded(grown: Grown, heard: Answers, settings: Settings) -> tuple[Grown, str | Spread]:
    if isinstance(settings, RankingSettings):
        return reranked(grown, heard, settings.outputs)
    return rejudged(grown, heard, settings)


def reranked(grown: Grown, heard: Answers, most: int) -> tuple[Grown, str]:
    """Each step's target is the candidate that was ranked first, and how many targets changed."""
    trajectories, changed, read, asked = [], 0, 0, 0
    for trajectory in grown.trajectories:
        best = {}
        for contest in contests(trajectory, most):
            for answer in heard.get(_contest_id(trajectory, contest), ()):
                asked += 1
                if answer is None:
                    continue
                order = ranking.order_of(answer, len(contest.places))
                assert isinstance(order, tuple)
                best[contest.call] = contest.places[order[0]]
        read += len(best)
        changed += sum(trajectory.calls[call].chosen != place for call, place in best.items())
        trajectories.append(retargeted(trajectory, best))
    told = f"{changed} of {asked} targets replaced, {asked - read} rankings could not be read"
    return replace(grown, trajectories=tuple(trajectories)), told


def rejudged(grown: Grown, heard: Answers, settings: AnswersSettings) -> tuple[Grown, Spread]:
    """Rewards of which the settings' part is the share of yes, and the mean share of yes over repetitions.

    Without an answer there is nothing to judge: no, each time. Where there is no gold answer, or no verdict could be
    read, the trajectory is masked.
    """
    verdicts = {
        t.id: on_answer(heard, _answer_id(t), settings.repetitions, answered=_answered(t))
        for t in grown.trajectories
        if grown.rewards[t.id] is not None
    }
    parts = (Part(1 - settings.weight), Part(settings.weight))
    rewards = {id: combined((reward, _share(verdicts.get(id, ()))), parts) for id, reward in grown.rewards.items()}
    judged = [each for each in verdicts.values() if each]
    spread = over_repetitions([list(one) for one in zip(*judged, strict=True)])
    return replace(grown, rewards=rewards), spread


def _share(verdicts: Sequence[bool | None]) -> float | None:
    known = [verdict for verdict in verdicts if verdict is not None]
    return sum(known) / len(known) if known else None


def _qualified(loop: Loop, kind: Kind, settings: Settings) -> Qualification:
    """The judge, tried on the labelled pairs. Where there are too few it is not even asked."""
    path, gate = Path(settings.gate.labels), settings.gate
    labels = read_labels(path, kind)

    def work(folder: Path) -> dict[str, Any]:
        if len(labels) < gate.pairs:
            return {"pairs": len(labels), "balanced_accuracy": None}
        said = verdicts_on(labels, _asked(loop, folder, of_labels(labels, settings), 0))
        accuracy = balanced_accuracy([pair.label for pair in labels], said)
        return {
            "pairs": len(labels),
            "balanced_accuracy": None if math.isnan(accuracy) else accuracy,
            "unread": said.count(None),
        }

    inputs = {**_named(loop, kind, settings), "labels": digest_file(path)}
    results = loop.stage(f"judge-{kind}", inputs, work).results
    accuracy = results["balanced_accuracy"]
    found = Qualification(
        results["pairs"], math.nan if accuracy is None else accuracy, gate.pairs, gate.balanced_accuracy
    )
    told = found.cell(f"qualified ({found.balanced_accuracy:.2f})")
    line = f"judge's {kind}: {told} on {found.pairs} labelled pairs"
    if found.qualified:
        notice(loop.bench.emit, line)
    else:
        warning(loop.bench.emit, f"{line}, so it changes nothing; label more pairs, or name a better judge")
    return found


def _heard(loop: Loop, number: int, grown: Grown, trusted: Mapping[Kind, Settings]) -> Answers:
    """What the judge says of a Grow's trajectories, the masked ones left out."""
    asked = {question.id: question for question in loop.grow_questions(loop.config.generations[number - 1].grow)}
    matters: list[Matter] = []
    for trajectory in grown.trajectories:
        if grown.rewards[trajectory.id] is None:
            continue
        for settings in trusted.values():
            if isinstance(settings, RankingSettings):
                matters += _rankings(trajectory, settings)
            elif _answered(trajectory) and (question := asked[trajectory.question_id]).golds:
                told = (question.text, trajectory.answer or "", question.golds)
                matters.append(equivalence_of(_answer_id(trajectory), *told, settings))

    def work(folder: Path) -> dict[str, Any]:
        answers = _asked(loop, folder, matters, number)
        return {
            "asked": sum(matter.repetitions for matter in matters),
            "unread": sum(answer is None for each in answers.values() for answer in each),
        }

    inputs = {
        "grown": digest([[t.id, t.weights_digest, t.generation, t.answer] for t in grown.trajectories]),
        "trusted": {kind: _named(loop, kind, settings) for kind, settings in trusted.items()},
    }
    return answers_of(store.read(loop.stage(f"gen-{number}/judged", inputs, work).folder / HEARD))


def _rankings(trajectory: Trajectory, settings: RankingSettings) -> list[Matter]:
    sampling = Sampling(settings.temperature)
    return [
        Matter(
            _contest_id(trajectory, contest),
            trajectory.question,
            lambda contest=contest: ranking.ranker(
                contest.seen, contest.outputs, max_tokens=settings.tokens, sampling=sampling
            ),
        )
        for contest in contests(trajectory, settings.outputs)
    ]


def _asked(loop: Loop, folder: Path, matters: Sequence[Matter], generation: int) -> Answers:
    ask = partial(loop.bench.judge, folder)
    return hear(ask, matters, seed=loop.seed, generation=generation, task=loop.bench.task.name)


def _wanted(settings: JudgeSettings | None) -> list[tuple[Kind, Settings]]:
    pairs: list[tuple[Kind, Settings | None]] = []
    if settings is not None:
        pairs = [("ranking", settings.ranking), ("answers", settings.answers)]
    return [(kind, wanted) for kind, wanted in pairs if wanted is not None]


def _named(loop: Loop, kind: Kind, settings: Settings) -> dict[str, Any]:
    """All that decides what the judge says, as a stage's input."""
    return {
        "judge": loop.bench.named(Role.JUDGE),
        "settings": settings,
        "prompt": digest(WORDS[kind]()),
    }


def _answered(trajectory: Trajectory) -> bool:
    return trajectory.status is Status.FINISHED and bool((trajectory.answer or "").strip())


def _answer_id(trajectory: Trajectory) -> str:
    return f"answer:{trajectory.id}"


def _contest_id(trajectory: Trajectory, contest: Contest) -> str:
    return f"rank:{trajectory.id}/{contest.call}"
