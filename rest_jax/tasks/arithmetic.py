"""Arithmetic: word problems of one and two sums, made from a seed, for models to which GSM8K is still too hard.

What is learned from right answers needs some to begin with; where a model finds hardly any in GSM8K, this takes its
place, and says so by its name. A sum (its numbers and what is done with them) belongs to one split alone, so an answer
that was learned by heart is worth nothing on another.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rest_jax.core.demonstration import Demonstration, Turn
from rest_jax.core.trajectory import Question
from rest_jax.tasks.numbers import number_metric, number_voice
from rest_jax.tasks.splits import Split
from rest_jax.tasks.task import Task

SEED = 7
SIZES = {Split.TRAIN: 1000, Split.SELECT: 200, Split.REPORT: 400}
EXAMPLES = 4
"""Train problems beyond the split, for worked examples in prompts."""

NAMES = ("Ada", "Bruno", "Carla", "Dario", "Elif", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Kira", "Levi")
THINGS = ("apples", "stamps", "marbles", "cards", "shells", "pencils", "coins", "stickers", "buttons", "plums")
BOXES = ("boxes", "bags", "baskets", "tins")

SHAPES: tuple[tuple[str, ...], ...] = (
    ("have", "more"),
    ("boxes", "less"),
    ("have", "less"),
    ("have", "more", "less"),
    ("boxes",),
    ("boxes", "more"),
    ("have", "more", "shared"),
    ("boxes", "shared"),
)
"""How eight problems in a row are built: three of one sum, five of two."""


@dataclass(frozen=True)
class Problem:
    """A quantity to begin with and what happens to it: `steps` of (kind, number), and the sums that solve it."""

    steps: tuple[tuple[str, int], ...]
    sums: tuple[str, ...]
    answer: int


def arithmetic(seed: int = SEED) -> Task:
    """Make the task: 1,000 train, 200 select and 400 report problems. The same seed gives the same words anywhere."""
    made = {split: _problems(split, seed) for split in Split}
    demonstrations = tuple(made[Split.TRAIN])
    return Task(
        name="arithmetic",
        corpus_file=None,
        splits={split: tuple(one.question for one in made[split][: SIZES[split]]) for split in Split},
        sources={"gold": demonstrations[: SIZES[Split.TRAIN]]},
        examples=demonstrations[SIZES[Split.TRAIN] :],
        metric=number_metric,
        voice=number_voice,
        version=f"1+seed{seed}",
        notes={"questions": "made by a script: one or two sums with numbers below 60"},
    )


def _problems(split: Split, seed: int) -> list[Demonstration]:
    rng = random.Random(f"arithmetic/{split}/{seed}")
    found: list[Demonstration] = []
    used: set[tuple[tuple[str, int], ...]] = set()
    wanted = SIZES[split] + (EXAMPLES if split is Split.TRAIN else 0)
    while len(found) < wanted:
        shape = SHAPES[len(found) % len(SHAPES)]
        problem = next(one for one in _drawn(rng, shape) if _owner(one, seed) is split and one.steps not in used)
        used.add(problem.steps)
        found.append(_told(problem, rng, f"arithmetic-{split}-{len(found):04d}"))
    return found


def _owner(problem: Problem, seed: int) -> Split:
    """The split that a sum belongs to, in whatever words it is told."""
    told = hashlib.sha256(f"{seed}/{problem.steps}".encode()).digest()
    return tuple(Split)[told[0] % len(Split)]


def _drawn(rng: random.Random, shape: Sequence[str]) -> Iterator[Problem]:
    """Problems of a shape without end: no quantity is below 2 or above 700, and all shares come out even."""
    while True:
        value, steps, sums = 0, list[tuple[str, int]](), list[str]()
        for kind in shape:
            match kind:
                case "have":
                    number = value = rng.randrange(5, 60)
                case "boxes":
                    boxes, number = rng.randrange(2, 13), rng.randrange(2, 50)
                    value = boxes * number
                    steps.append(("count", boxes))
                    sums.append(f"{boxes} * {number} = {value}")
                case "more":
                    number = rng.randrange(2, 60)
                    sums.append(f"{value} + {number} = {value + number}")
                    value += number
                case "less":
                    number = rng.randrange(2, 60)
                    sums.append(f"{value} - {number} = {value - number}")
                    value -= number
                case _:
                    number = rng.randrange(2, 10)
                    sums.append(f"{value} / {number} = {value // number}")
                    value = value // number if value % number == 0 else 0
            steps.append((kind, number))
            if value < 2:
                break
        else:
            yield Problem(tuple(steps), tuple(sums), value)


def _told(problem: Problem, rng: random.Random, id: str) -> Demonstration:
    name, things, boxes = rng.choice(NAMES), rng.choice(THINGS), rng.choice(BOXES)
    said, count = list[str](), 0
    ending = f"How many {things} does {name} have now?"
    for kind, number in problem.steps:
        match kind:
            case "count":
                count = number
            case "have":
                said.append(f"{name} has {number} {things}.")
            case "boxes":
                said.append(f"{name} has {count} {boxes} with {number} {things} in each.")
            case "more":
                said.append(rng.choice((f"{name} buys {number} more.", f"A friend brings {number} more.")))
            case "less":
                said.append(rng.choice((f"{name} gives {number} of them away.", f"{number} of them get lost.")))
            case _:
                ending = f"{name} shares them equally among {number} friends. How many {things} does each friend get?"
    question = Question(id, " ".join([*said, ending]), str(problem.answer), {"level": str(len(problem.sums))})
    return Demonstration(question, (Turn(". ".join(problem.sums) + ".", "finish", question.answer),))
