"""Atlas: a fictional world to search, made by a script from a seed, so that a small model can learn to look things up.

Train, select and report are three worlds that share no word of any name, no year, no answer and no article. They
stand in one corpus file, for one tool adapter serves a run: a name finds articles of its own world alone, and so do
more than 99 of 100 whole questions. Nothing here can be known without searching, so an answer measures the search.

Search skill shows, because (BM25, one passage shown) an exact title always finds its article, "mayor of TITLE" finds
it six times in ten, half of a work's title five times in ten, a surname alone less than once in ten, an alias never.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rest_jax.core.demonstration import Demonstration
from rest_jax.core.trajectory import Question
from rest_jax.tasks.atlas_names import names_of_worlds
from rest_jax.tasks.atlas_questions import demonstration, make_questions
from rest_jax.tasks.atlas_text import article
from rest_jax.tasks.atlas_world import World, make_world
from rest_jax.tasks.files import write_jsonl
from rest_jax.tasks.splits import Split
from rest_jax.tasks.task import Task

SEED = 7
SIZES = {Split.TRAIN: 1000, Split.SELECT: 400, Split.REPORT: 800}
EXAMPLES = 4
"""Train-world questions beyond the split, for worked examples in prompts."""


@dataclass(frozen=True)
class Region:
    """A world with its articles' texts by title and its questions in order."""

    world: World
    texts: Mapping[str, str]
    questions: tuple[Question, ...]

    def demonstrations(self) -> tuple[Demonstration, ...]:
        return tuple(demonstration(question, self.texts) for question in self.questions)


def atlas(folder: Path, seed: int = SEED) -> Task:
    """Make the task and write its corpus to `folder`. The same seed gives the same bytes anywhere."""
    regions = make_regions(seed)
    corpus = folder / f"atlas-{seed}.jsonl"
    write_jsonl(
        corpus,
        ({"title": title, "text": text} for region in regions.values() for title, text in region.texts.items()),
    )
    demonstrations = regions[Split.TRAIN].demonstrations()
    return Task(
        name="atlas",
        corpus_file=corpus,
        splits={split: region.questions[: SIZES[split]] for split, region in regions.items()},
        sources={"gold": demonstrations[: SIZES[Split.TRAIN]]},
        examples=demonstrations[SIZES[Split.TRAIN] :],
        version=f"1+seed{seed}",
        notes={"corpus": "fictional articles of three disjoint worlds"},
    )


def make_regions(seed: int = SEED) -> dict[Split, Region]:
    """The three worlds. Train's has `EXAMPLES` questions more than its split."""
    words = names_of_worlds(seed, len(Split))
    regions = {}
    for index, (split, names) in enumerate(zip(Split, words, strict=True)):
        world = make_world(str(split), names, seed, index, len(Split))
        rng = random.Random(f"atlas/articles/{split}/{seed}")
        texts = {title: article(entity, rng.randrange(2)) for title, entity in world.entities.items()}
        n = SIZES[split] + (EXAMPLES if split is Split.TRAIN else 0)
        questions = make_questions(world, texts, n, seed, hold_out=split is Split.REPORT)
        regions[split] = Region(world, texts, tuple(questions))
    return regions
