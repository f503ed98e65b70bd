"""The words of Atlas: its relations, its articles, its questions and the thoughts of its demonstrations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from rest_jax.tasks.atlas_world import Entity, Kind


@dataclass(frozen=True)
class Relation:
    """A fact that every entity of a kind has exactly one of. `leads_to` None: to a year, where a chain ends."""

    key: str
    noun: str
    of: Kind
    leads_to: Kind | None


RELATIONS = (
    Relation("home", "home town", Kind.PERSON, Kind.TOWN),
    Relation("teacher", "teacher", Kind.PERSON, Kind.PERSON),
    Relation("school", "school", Kind.PERSON, Kind.INSTITUTION),
    Relation("born", "birth year", Kind.PERSON, None),
    Relation("mayor", "mayor", Kind.TOWN, Kind.PERSON),
    Relation("river", "river", Kind.TOWN, Kind.RIVER),
    Relation("founded", "founding year", Kind.TOWN, None),
    Relation("author", "author", Kind.WORK, Kind.PERSON),
    Relation("patron", "patron", Kind.WORK, Kind.PERSON),
    Relation("setting", "setting", Kind.WORK, Kind.TOWN),
    Relation("head", "head", Kind.INSTITUTION, Kind.PERSON),
    Relation("founder", "founder", Kind.INSTITUTION, Kind.PERSON),
    Relation("seat", "town", Kind.INSTITUTION, Kind.TOWN),
    Relation("opened", "opening year", Kind.INSTITUTION, None),
    Relation("source", "source", Kind.RIVER, Kind.TOWN),
    Relation("mouth", "mouth", Kind.RIVER, Kind.TOWN),
)

"""What is asked. A work's year is told but never asked for: works only begin a chain, and no chain is one hop long."""

RELATION = {relation.key: relation for relation in RELATIONS}

ARTICLES: dict[Kind, tuple[str, str]] = {
    Kind.PERSON: (
        "A {form} born in {born}; home town {home}. Studied at {school} with the teacher {teacher}.",
        "A {form} of {home}, taught by {teacher} at {school}. Birth year: {born}.",
    ),
    Kind.TOWN: (
        "A town on the {river}, founded in {founded}. The mayor is {mayor}.",
        "{mayor} is mayor of this town, founded in {founded}. It has a river, {river}.",
    ),
    Kind.WORK: (
        "A {form} by {author} for the patron {patron}, set in {setting}. It appeared in {appeared}.",
        "{patron} was patron of this {form} of {appeared}; {author} is the author. Its setting is {setting}.",
    ),
    Kind.INSTITUTION: (
        "A {form} in {seat}, opened in {opened}. The founder was {founder}; the head is {head}.",
        "{head} is head of this {form} in {seat}. Its founder {founder} opened it in {opened}.",
    ),
    Kind.RIVER: (
        "A river with its source at {source} and its mouth at {mouth}.",
        "It flows to its mouth at {mouth}. Its source is at {source}.",
    ),
}
"""Two ways to say the same facts, in different order."""


class Wording(StrEnum):
    """How a question is put. The last two stand in the held-out part of the report split alone."""

    WHAT = "what"
    NAME = "name"
    POSSESSIVE = "possessive"
    STEPS = "steps"


HELD_OUT_WORDINGS = (Wording.POSSESSIVE, Wording.STEPS)


def article(entity: Entity, way: int) -> str:
    """The article's text, without its title; `way` chooses one of the two ways to tell it."""
    if entity.kind is Kind.FAMILY:
        return f"A surname. People of this name: {', '.join(entity.related)}."
    if entity.kind is Kind.RUIN:
        return f"A ruined village near {entity.related[0]}. Nobody lives there; it has no mayor."
    told = ARTICLES[entity.kind][way].format(form=entity.form.lower(), **entity.facts)
    return f"{told} Also called {entity.alias}." if entity.alias else told


def question_text(start: str, relations: Sequence[Relation], wording: Wording) -> str:
    """The question that follows the relations from the start, the first one first."""
    nouns = [relation.noun for relation in relations]
    backward = " of ".join(f"the {noun}" for noun in reversed(nouns)) + f" of {start}"
    match wording:
        case Wording.WHAT:
            asks_person = relations[-1].leads_to is Kind.PERSON
            return f"{'Who' if asks_person else 'What'} is {backward}?"
        case Wording.NAME:
            return f"Name {backward}."
        case Wording.POSSESSIVE:
            possessive = "'s ".join(nouns)
            return f"Think of {start}. Name its {possessive}."
        case Wording.STEPS:
            return f"From {start} go to the {', then to the '.join(nouns)}. Where do you end?"


def first_thought(start: str, relation: Relation) -> str:
    return f"I need the {relation.noun} of {start}."


def next_thought(known: Relation, found: str, wanted: Relation) -> str:
    return f"The {known.noun} is {found}. I need the {wanted.noun}."


def last_thought(known: Relation, found: str) -> str:
    return f"The {known.noun} is {found}."
