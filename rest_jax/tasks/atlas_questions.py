"""Atlas's questions: chains of relations through a world, each with one answer that no shorter walk shows."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rest_jax.core.demonstration import Demonstration, Turn
from rest_jax.core.trajectory import Question
from rest_jax.tasks.atlas_text import (
    HELD_OUT_WORDINGS,
    RELATION,
    RELATIONS,
    Relation,
    Wording,
    first_thought,
    last_thought,
    next_thought,
    question_text,
)
from rest_jax.tasks.atlas_world import Kind, World

HELD_OUT_PAIRS = frozenset(
    {("author", "school"), ("mayor", "teacher"), ("setting", "river"), ("head", "home"), ("founder", "born")}
)
"""Compositions (one relation directly after another) that occur in the held-out part of the report split alone."""

HOPS_CYCLE = (2, 3, 2, 4, 2, 3, 2, 3, 2, 3, 2, 4, 2, 3, 2, 3, 2, 4, 2, 3)
"""Hops of twenty questions in a row: 10 of two, 7 of three, 3 of four; every prefix is nearly balanced."""

HELD_OUT_PLACES = {2: "composition", 5: "wording", 11: "composition", 14: "wording"}
"""Which of twenty report questions in a row are held out (two of two hops, one of three, one of four), and by what."""

MOST_PER_ANSWER = 5
"""The most questions of one split that share an answer."""

STARTS = (Kind.WORK, Kind.INSTITUTION, Kind.PERSON, Kind.TOWN)


@dataclass(frozen=True)
class Chain:
    """A start, the relations to follow, and the titles on the way: `path[0]` is the start, `path[-1]` the answer."""

    relations: tuple[Relation, ...]
    path: tuple[str, ...]

    @property
    def is_held_out(self) -> bool:
        keys = [relation.key for relation in self.relations]
        return any(pair in HELD_OUT_PAIRS for pair in pairwise(keys))


def follow(world: World, start: str, keys: Sequence[str]) -> tuple[str, ...]:
    """The titles on a walk through the world's facts, start and end included."""
    path = [start]
    for key in keys:
        path.append(world.entities[path[-1]].facts[key])
    return tuple(path)


def make_questions(world: World, texts: Mapping[str, str], n: int, seed: int, *, hold_out: bool) -> list[Question]:
    """n questions of a world in their order. `texts` are its articles by title.

    With `hold_out`, the places `HELD_OUT_PLACES` of every twenty hold questions of compositions or wordings that no
    world made without it contains; they carry `meta["heldout"] = True`.
    """
    rng = random.Random(f"atlas/questions/{world.name}/{seed}")
    answers: Counter[str] = Counter()
    used: set[tuple[str, tuple[Relation, ...]]] = set()
    questions = []
    for number in range(n):
        place = number % len(HOPS_CYCLE)
        held_out = HELD_OUT_PLACES.get(place, "") if hold_out else ""
        chain = next(
            chain
            for chain in _walks(rng, world, texts, HOPS_CYCLE[place])
            if (chain.path[0], chain.relations) not in used
            and answers[chain.path[-1]] < MOST_PER_ANSWER
            and chain.is_held_out == (held_out == "composition")
        )
        used.add((chain.path[0], chain.relations))
        answers[chain.path[-1]] += 1
        wording = rng.choice(HELD_OUT_WORDINGS if held_out == "wording" else (Wording.WHAT, Wording.NAME))
        questions.append(_question(f"atlas-{world.name}-{number:04d}", chain, wording, held_out))
    return questions


def demonstration(question: Question, texts: Mapping[str, str]) -> Demonstration:
    """The gold trajectory: search every title of the path but the last, which is the answer."""
    path = question.meta["path"]
    relations = [RELATION[key] for key in question.meta["relations"]]
    thoughts = [
        first_thought(path[0], relations[0]),
        *(
            next_thought(known, found, wanted)
            for known, found, wanted in zip(relations, path[1:], relations[1:], strict=False)
        ),
    ]
    searches = [
        Turn(thought, "search", title, f"{title}: {texts[title]}")
        for thought, title in zip(thoughts, path, strict=False)
    ]
    return Demonstration(question, (*searches, Turn(last_thought(relations[-1], path[-1]), "finish", path[-1])))


def _question(id: str, chain: Chain, wording: Wording, held_out: str) -> Question:
    hops = len(chain.relations)
    meta = {
        "level": f"{hops} hops",
        "hops": hops,
        "searches": hops,
        "path": list(chain.path),
        "relations": [relation.key for relation in chain.relations],
        "wording": str(wording),
        "heldout": bool(held_out),
        "heldout_by": held_out,
    }
    return Question(id, question_text(chain.path[0], chain.relations, wording), chain.path[-1], meta)


def _walks(rng: random.Random, world: World, texts: Mapping[str, str], hops: int) -> Iterator[Chain]:
    """Random chains of this many hops, without end; only those whose every hop is needed."""
    starts = {kind: [entity.title for entity in world.entities.values() if entity.kind is kind] for kind in STARTS}
    while True:
        path = [rng.choice(starts[rng.choice(STARTS)])]
        relations: list[Relation] = []
        while len(relations) < hops:
            last = len(relations) == hops - 1
            choices = [
                relation
                for relation in RELATIONS
                if relation.of is world.entities[path[-1]].kind and (last or relation.leads_to is not None)
            ]
            relation = rng.choice(choices)
            relations.append(relation)
            path.append(world.entities[path[-1]].facts[relation.key])
        if _every_hop_is_needed(path, texts):
            yield Chain(tuple(relations), tuple(path))


def _every_hop_is_needed(path: Sequence[str], texts: Mapping[str, str]) -> bool:
    """True when no title comes twice, and each stands in no article before the one that introduces it."""
    if len(set(path)) < len(path):
        return False
    shown = [f"{title}: {texts[title]}" for title in path[:-1]]
    return not any(title in text for place, title in enumerate(path) for text in shown[: max(0, place - 1)])
