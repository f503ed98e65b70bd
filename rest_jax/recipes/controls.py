"""What a loop is compared with: controls at equal budget, and floors.

Controls that learn are the loop itself (same steps, rates, resets and choices on select, generation by generation) on
another mixture; C and G are the pilot with as many samples of each question as the loop's sampled tokens buy, H the
last generation's policy without a choice among candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rest_jax.config.controls import SAMPLES
from rest_jax.core import answers
from rest_jax.core.answers import Voice, normalise
from rest_jax.core.effects import Status
from rest_jax.core.trajectory import Trajectory
from rest_jax.evaluation.records import OF_ATTEMPTS, Record
from rest_jax.recipes import floors, mixture, plan
from rest_jax.recipes.loop import Loop, named, read_measured, recorded
from rest_jax.recipes.rest import Finished, Reached, climb, kept, steps_taken
from rest_jax.recipes.seeds import derived_seed
from rest_jax.recipes.stages import Done
from rest_jax.recipes.summary import Measured
from rest_jax.recipes.workbench import TRAJECTORIES, RolloutSpec
from rest_jax.rollout import store
from rest_jax.tasks.splits import Reader

ROWS = {
    "more_pilot": "A more pilot",
    "random_samples": "B random samples",
    "majority": "C majority",
    "gold": "D gold",
    "more_gen_1": "E more gen 1",
    "low_perplexity": "F low perplexity",
    "best_of": "G best of N",
    "single_sample": "H single sample",
    "data_1x": "data 1x",
    "data_2x": "data 2x",
}
"""Control → name of its row."""


def control(loop: Loop, name: str, finished: Finished) -> Measured:
    """The row of one control of a finished loop."""
    if name in _PLAYED:
        return _PLAYED[name](loop, finished)
    reached, begun = Reached(finished.pilot), 0
    if name == "more_gen_1":
        reached, begun = finished.generations[0].reached, 1
    remarks = ["samples of the teacher"] if name == "random_samples" and _taught(loop) else []
    if name in SAMPLES and len(finished.generations) > 1:
        remarks.append("the Grows are of the loop that learned from all samples")
    for number, mix in _path(loop, name, finished, begun):
        settings = loop.config.generations[number].improve
        if not mix:
            why = "has nothing to learn from, the policy before it goes on"
            remarks.append(f"seed {loop.seed}: generation {number + 1} {why}")
        mixes = [mix] * len(settings.thresholds)
        reached = climb(loop, f"control-{name}/gen-{number + 1}", reached, mixes, settings)
    row = loop.measured(f"control-{name}", ROWS[name], reached.player, loop.config.evaluate.final)
    remarks.append(steps_taken(loop, reached, len(finished.generations)))
    return replace(row, remark="; ".join(filter(None, remarks)))


def _path(loop: Loop, name: str, finished: Finished, begun: int) -> Sequence[tuple[int, Sequence[Trajectory]]]:
    """The generations that a control learns in, each with its mixture; none before the last that forgets them."""
    path: list[tuple[int, Sequence[Trajectory]]] = []
    for number in reversed(range(begun, len(finished.generations))):
        path.append((number, MIXTURES[name](loop, finished, number)))
        if path[-1][1] and loop.config.generations[number].improve.forgets:
            break
    return path[::-1]


def floor(loop: Loop, name: str) -> Measured:
    """The row of one floor."""
    ev, task = loop.config.evaluate, loop.bench.task
    if name in floors.PLAYED:
        return loop.measured(f"floor-{name}", floors.PLAYED[name], loop.bench.base, ev.final, method=name)

    def work(folder: Path) -> dict[str, Any]:
        asked = task.questions(ev.split, Reader.EVALUATION, ev.final)
        train = task.questions("train", Reader.TRAINING)
        return recorded(folder, floors.most_frequent(train, asked, task.score))

    done = loop.stage(f"floor-{name}", {"split": ev.split, "n": ev.final}, work)
    return read_measured(done, floors.MOST_FREQUENT, "")


def majority(records: Sequence[Record], voice: Voice = normalise) -> tuple[Record, ...]:
    """For each question the first sample whose answer (by `voice`) is the commonest, at the cost of all its samples.

    Ties go to the lowest sample. A question that no sample answered is represented by its first sample, the masked
    ones last.
    """

    def winner(samples: Sequence[Record]) -> Record:
        vote = answers.majority([record.answer for record in samples], voice)
        return samples[vote.first if vote else 0]

    return _one_of_each(records, winner)


def best_of(samples: Sequence[Trajectory], records: Sequence[Record]) -> tuple[Record, ...]:
    """For each question the answer of the lowest perplexity per token, at the cost of all its samples; where none
    answered, its first sample, the masked ones last."""
    worth = {(t.question_id, t.sample): t.mean_logprob for t in samples}

    def rank(record: Record) -> tuple[bool, bool, float, int]:
        unanswered = record.status != Status.FINISHED.value
        likelihood = 0.0 if unanswered else worth[record.question_id, record.sample]
        return record.masked, unanswered, -likelihood, record.sample

    return _one_of_each(records, lambda samples: min(samples, key=rank))


def _one_of_each(records: Sequence[Record], choose: Callable[[Sequence[Record]], Record]) -> tuple[Record, ...]:
    """The record that is chosen among each question's, with the searches and tokens of all of them."""
    by_question: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda r: (r.question_id, r.masked, r.sample)):
        by_question.setdefault(record.question_id, []).append(record)
    return tuple(
        replace(
            choose(samples),
            searches=sum(record.searches for record in samples),
            model_tokens=sum(record.model_tokens for record in samples),
            **dict.fromkeys(OF_ATTEMPTS),  # the vote is among samples
        )
        for samples in by_question.values()
    )


def _more_pilot(loop: Loop, finished: Finished, number: int) -> Sequence[Trajectory]:
    """A's mixture: the pilot's demonstrations again."""
    return finished.demonstrations


def _random_samples(loop: Loop, finished: Finished, number: int) -> Sequence[Trajectory]:
    """B's mixture: as many samples of the first Grow that answered as this generation kept, chosen without their
    reward."""
    seed = derived_seed(loop.seed, "random_samples", number)
    chosen = mixture.random_finished(finished.generations[0].grown, _kept(loop, finished, number), seed)
    return mixture.seeded(chosen, finished.demonstrations, loop.config.generations[number].improve)


def _low_perplexity(loop: Loop, finished: Finished, number: int) -> Sequence[Trajectory]:
    """F's mixture: as many samples of this generation as its filter kept, chosen by their perplexity instead."""
    generation = finished.generations[number]
    chosen = mixture.likeliest(generation.grown, generation.sampled, _kept(loop, finished, number))
    return mixture.seeded(chosen, finished.demonstrations, loop.config.generations[number].improve)


def _more_gen_1(loop: Loop, finished: Finished, number: int) -> Sequence[Trajectory]:
    """E's mixture: generation 1's again."""
    return mixture.seeded(_kept(loop, finished, 0), finished.demonstrations, loop.config.generations[0].improve)


def _first_samples(n: int, loop: Loop, finished: Finished, number: int) -> Sequence[Trajectory]:
    """What this generation would have learned from, had it sampled each question n times (Aksitov et al. 2023, table
    3)."""
    settings, generation = loop.config.generations[number].improve, finished.generations[number]
    some = mixture.first_samples(generation.grown, n)
    return mixture.seeded(kept(some, settings, generation.reached), finished.demonstrations, settings)


def _kept(loop: Loop, finished: Finished, number: int) -> tuple[Trajectory, ...]:
    """What made a generation's policy."""
    generation = finished.generations[number]
    return kept(generation.grown, loop.config.generations[number].improve, generation.reached)


def _gold(loop: Loop, finished: Finished, number: int) -> Sequence[Trajectory]:
    """D's mixture: gold demonstrations of the questions that this generation sampled, a ceiling."""
    generation = loop.config.generations[number]
    asked = {question.id for question in loop.grow_questions(generation.grow)}
    chosen = tuple(d for d in loop.bench.task.sources["gold"] if d.question.id in asked)
    replayed = loop.demonstrate(f"control-gold/demonstrations-{number + 1}", chosen).rewarding
    return mixture.seeded(replayed, finished.demonstrations, generation.improve)


def _majority(loop: Loop, finished: Finished) -> Measured:
    """C: the majority of as many pilot samples a question as the sampled tokens of the whole loop would buy."""
    done, samples = _voted(loop, finished)
    row = read_measured(done, ROWS["majority"], finished.pilot.weights_digest)
    remark = f"seed {loop.seed}: an answer is the vote of {samples} samples, searches are all theirs"
    return replace(row, remark=remark + _unpaid(loop))


def _best_of(loop: Loop, finished: Finished) -> Measured:
    """G: of the majority's samples the answer of the lowest perplexity."""
    ev = loop.config.evaluate
    voted, samples = _voted(loop, finished)
    questions = loop.bench.task.questions(ev.split, Reader.EVALUATION, ev.final)

    def work(folder: Path) -> dict[str, Any]:
        sampled = store.read(voted.folder / TRAJECTORIES)
        return recorded(folder, best_of(sampled, loop.judged(sampled, questions)))

    inputs = {"player": named(finished.pilot), "split": ev.split, "n": ev.final, "samples": samples}
    done = loop.stage(f"control-best_of/evaluate-{ev.split}", inputs, work)
    row = read_measured(done, ROWS["best_of"], finished.pilot.weights_digest)
    remark = f"seed {loop.seed}: an answer is the likeliest of {samples} samples, searches and seconds are all theirs"
    return replace(row, seconds=voted.seconds + row.seconds, remark=remark + _unpaid(loop))


def _single_sample(loop: Loop, finished: Finished) -> Measured:
    """H: the last generation's policy, at each step with one candidate instead of the likeliest of several."""
    row = loop.measured(
        "control-single_sample",
        ROWS["single_sample"],
        finished.generations[-1].reached.player,
        loop.config.evaluate.final,
        candidates=1,
    )
    return replace(row, remark=f"one candidate a step instead of {loop.config.agent.candidates}")


def _voted(loop: Loop, finished: Finished) -> tuple[Done, int]:
    """The stage of C, whose samples are G's too, and how many they are of each question.

    The loop's tokens are those of all Grows, of what it measured on select and of its final evaluation; at least three
    samples vote.
    """
    ev, grow = loop.config.evaluate, loop.config.generations[0].grow
    questions = loop.bench.task.questions(ev.split, Reader.EVALUATION, ev.final)
    sampling = grow.sampling(loop.config.agent)
    pilot, last = finished.rows[0].records, finished.last.records
    spent = sum(generation.sampled.model_tokens for generation in finished.generations)
    spent += finished.generations[-1].reached.tokens + sum(record.model_tokens for record in last)
    one = sum(record.model_tokens for record in pilot) / len(pilot)
    samples = max(plan.FEWEST_VOTES, round(spent / (one * len(questions))))

    def work(folder: Path) -> dict[str, Any]:
        spec = RolloutSpec(questions, ev.split, samples, sampling, loop.seed)
        votes = loop.judged(loop.bench.play(folder, finished.pilot, spec), questions)
        return recorded(folder, majority(votes, loop.bench.task.voice))

    inputs = {"player": named(finished.pilot), "split": ev.split, "n": ev.final, "samples": samples}
    return loop.stage(f"control-majority/evaluate-{ev.split}", inputs, work), samples


def _unpaid(loop: Loop) -> str:
    """What the loop was given and its samples do not cost."""
    return "" if loop.config.judge is None else ", the judge's tokens are not counted"


def _taught(loop: Loop) -> bool:
    return loop.config.generations[0].grow.policy == "teacher"


_PLAYED = {"majority": _majority, "best_of": _best_of, "single_sample": _single_sample}
MIXTURES: Mapping[str, Callable[[Loop, Finished, int], Sequence[Trajectory]]] = {
    "more_pilot": _more_pilot,
    "random_samples": _random_samples,
    "gold": _gold,
    "more_gen_1": _more_gen_1,
    "low_perplexity": _low_perplexity,
    **{name: partial(_first_samples, n) for name, n in SAMPLES.items()},
}
"""Control → what it learns from in the generation of this number, from 0."""
