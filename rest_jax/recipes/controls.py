"""What a loop is compared with: controls at equal budget, and floors.

Controls A, B and D are the loop itself (same steps, rates and resets, generation by generation) on another mixture; C
is the pilot with as many votes as the loop's sampled tokens buy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rest_jax.core.events import silent
from rest_jax.core.trajectory import Trajectory
from rest_jax.evaluation.records import Record
from rest_jax.recipes import floors, mixture, plan
from rest_jax.recipes.rest import Finished, Loop, named, read_measured, recorded
from rest_jax.recipes.seeds import derived_seed
from rest_jax.recipes.summary import Measured
from rest_jax.recipes.workbench import RolloutSpec
from rest_jax.tasks.metrics import normalise
from rest_jax.tasks.splits import Reader

ROWS = {
    "more_pilot": "A more pilot",
    "random_samples": "B random samples",
    "majority": "C majority",
    "gold": "D gold",
}
"""Control → name of its row."""


def control(loop: Loop, name: str, finished: Finished) -> Measured:
    """The row of one control of a finished loop."""
    if name == "majority":
        return _majority(loop, finished)
    mixture_of = {"more_pilot": _more_pilot, "random_samples": _random_samples, "gold": _gold}[name]
    mixtures = [mixture_of(loop, finished, number) for number in range(len(finished.grown))]
    player = finished.pilot
    for number, (generation, mix) in enumerate(zip(loop.config.generations, mixtures, strict=True), 1):
        for step in range(1, len(generation.improve.thresholds) + 1):
            player = loop.improved(f"control-{name}/gen-{number}/improve-{step}", player, mix, generation.improve)
    return loop.measured(f"control-{name}", ROWS[name], player, loop.config.evaluate.final)


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
    return read_measured(done, "most frequent answer", "")


def majority(records: Sequence[Record]) -> tuple[Record, ...]:
    """For each question the first sample whose normalised answer is the commonest, at the cost of all its samples.

    Ties go to the lowest sample. A question that no sample answered is represented by its first sample, the masked
    ones last.
    """
    by_question: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda r: (r.question_id, r.masked, r.sample)):
        by_question.setdefault(record.question_id, []).append(record)
    return tuple(
        replace(
            _winner(samples),
            searches=sum(record.searches for record in samples),
            model_tokens=sum(record.model_tokens for record in samples),
        )
        for samples in by_question.values()
    )


def _winner(samples: Sequence[Record]) -> Record:
    answered = [(normalise(record.answer), record) for record in samples if record.answer is not None]
    if not answered:
        return samples[0]
    votes = Counter(answer for answer, _ in answered)
    return max(answered, key=lambda pair: (votes[pair[0]], -pair[1].sample))[1]


def _more_pilot(loop: Loop, finished: Finished, number: int) -> Sequence[Trajectory]:
    """A's mixture: the pilot's demonstrations again."""
    return finished.demonstrations


def _random_samples(loop: Loop, finished: Finished, number: int) -> Sequence[Trajectory]:
    """B's mixture: as many pilot samples that answered as this generation kept, chosen without their reward."""
    settings = loop.config.generations[number].improve
    kept = len(mixture.thresholded(finished.grown[number], settings, settings.thresholds[-1], silent))
    seed = derived_seed(loop.seed, "random_samples", number)
    return mixture.seeded(mixture.random_finished(finished.grown[0], kept, seed), finished.demonstrations, settings)


def _gold(loop: Loop, finished: Finished, number: int) -> Sequence[Trajectory]:
    """D's mixture: gold demonstrations of the questions that this generation sampled, a ceiling."""
    generation = loop.config.generations[number]
    asked = {question.id for question in loop.grow_questions(generation.grow)}
    chosen = tuple(d for d in loop.bench.task.sources["gold"] if d.question.id in asked)
    replayed = loop.demonstrate(f"control-gold/demonstrations-{number + 1}", chosen)
    return mixture.seeded(replayed, finished.demonstrations, generation.improve)


def _majority(loop: Loop, finished: Finished) -> Measured:
    """C: the majority of as many pilot samples a question as the sampled tokens of the whole loop would buy.

    The loop's tokens are those of all Grows and of its final evaluation; at least three samples vote.
    """
    ev, grow = loop.config.evaluate, loop.config.generations[0].grow
    questions = loop.bench.task.questions(ev.split, Reader.EVALUATION, ev.final)
    sampling = grow.sampling
    pilot, last = finished.rows[0].records, finished.rows[-1].records
    spent = sum(t.model_tokens for grown in finished.grown for t in grown.trajectories)
    spent += sum(record.model_tokens for record in last)
    one = sum(record.model_tokens for record in pilot) / len(pilot)
    samples = max(plan.FEWEST_VOTES, round(spent / (one * len(questions))))

    def work(folder: Path) -> dict[str, Any]:
        spec = RolloutSpec(questions, ev.split, samples, sampling, loop.seed)
        votes = loop.judged(loop.bench.play(folder, finished.pilot, spec), questions)
        return recorded(folder, majority(votes))

    inputs = {"player": named(finished.pilot), "split": ev.split, "n": ev.final, "samples": samples}
    done = loop.stage(f"control-majority/evaluate-{ev.split}", inputs, work)
    row = read_measured(done, ROWS["majority"], finished.pilot.weights_digest)
    return replace(row, remark=f"seed {loop.seed}: an answer is the vote of {samples} samples, searches are all theirs")
