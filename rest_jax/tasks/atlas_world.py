"""One world of Atlas: people, towns, works, institutions and rivers, and the facts that tie them together."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from rest_jax.tasks.atlas_names import Names

PEOPLE, SURNAMES, TOWNS, RUINS, RIVERS, PAIRS = 160, 64, 90, 30, 30, 60
FIRST_YEAR, LAST_YEAR = 200, 999


class Kind(StrEnum):
    PERSON = "person"
    TOWN = "town"
    WORK = "work"
    INSTITUTION = "institution"
    RIVER = "river"
    FAMILY = "family"
    """A dead end: all that a surname alone leads to."""
    RUIN = "ruin"
    """A dead end: a namesake of a town, about which nothing is asked."""


WORK_FORMS = ("Song", "Tale", "Book")
INSTITUTION_FORMS = ("School", "Guild", "Museum")
CRAFTS = ("weaver", "painter", "poet", "sailor", "smith", "judge", "doctor", "singer")


@dataclass(frozen=True)
class Entity:
    """An article's subject. `facts` maps what is told about it to another entity's title, or to a year."""

    kind: Kind
    title: str
    facts: Mapping[str, str]
    form: str = ""
    """What sort of its kind it is: `Song`, `School`, `weaver` …"""
    related: tuple[str, ...] = ()
    """Titles that its article names beside the facts."""
    alias: str = ""
    """Another name, of which the world makes no title."""


@dataclass(frozen=True)
class World:
    """Everything there is, by title. Titles are unique; every fact's value is a title of this world or a year."""

    name: str
    entities: Mapping[str, Entity]


@dataclass(frozen=True)
class _Titles:
    """The titles of a world before anything is known about them."""

    people: tuple[str, ...]
    towns: tuple[str, ...]
    rivers: tuple[str, ...]
    works: tuple[str, ...]
    institutions: tuple[str, ...]
    aliases: Mapping[str, str]


def make_world(name: str, names: Names, seed: int, index: int, worlds: int) -> World:
    """Make a world from its own words. Years are those that leave `index` when divided by `worlds`, so that no two
    worlds share one."""
    rng = random.Random(f"atlas/world/{name}/{seed}")
    titles = _titles(rng, names)
    years = [str(year) for year in range(FIRST_YEAR, LAST_YEAR + 1) if year % worlds == index]
    entities = [
        *_people(rng, titles, years),
        *_towns(rng, titles, years),
        *_works(rng, titles, years),
        *_institutions(rng, titles, years),
        *_rivers(rng, titles),
        *_families(titles),
        *_ruins(titles),
    ]
    return World(name, {entity.title: entity for entity in entities})


def _titles(rng: random.Random, names: Names) -> _Titles:
    surnames = names.surnames[:SURNAMES]
    people = rng.sample([f"{first} {surname}" for surname in surnames for first in names.first], PEOPLE)
    towns = names.places[:TOWNS]
    things = iter(names.things)
    rivers = [f"River {next(things)}" for _ in range(RIVERS)]
    works = [f"{form} of {word}" for word, forms in _pairs(rng, things, WORK_FORMS) for form in forms]
    institutions = [f"{word} {form}" for word, forms in _pairs(rng, things, INSTITUTION_FORMS) for form in forms]
    aliases = dict(zip(rng.sample(towns, RUINS), names.places[TOWNS : TOWNS + RUINS], strict=True))
    return _Titles(tuple(people), tuple(towns), tuple(rivers), tuple(works), tuple(institutions), aliases)


def _pairs(rng: random.Random, words: Iterator[str], forms: tuple[str, ...]) -> list[tuple[str, list[str]]]:
    """Words, each with two of the forms: every title of this sort has a namesake."""
    return [(next(words), rng.sample(forms, 2)) for _ in range(PAIRS)]


def _people(rng: random.Random, titles: _Titles, years: list[str]) -> list[Entity]:
    schools = [title for title in titles.institutions if title.endswith("School")]
    return [
        Entity(
            Kind.PERSON,
            person,
            {
                "home": rng.choice(titles.towns),
                "teacher": _other_person(rng, titles, person),
                "school": rng.choice(schools),
                "born": rng.choice(years),
            },
            form=rng.choice(CRAFTS),
        )
        for person in titles.people
    ]


def _towns(rng: random.Random, titles: _Titles, years: list[str]) -> list[Entity]:
    return [
        Entity(
            Kind.TOWN,
            town,
            {"mayor": rng.choice(titles.people), "river": rng.choice(titles.rivers), "founded": rng.choice(years)},
            alias=titles.aliases.get(town, ""),
        )
        for town in titles.towns
    ]


def _works(rng: random.Random, titles: _Titles, years: list[str]) -> list[Entity]:
    works = []
    for work in titles.works:
        author = rng.choice(titles.people)
        facts = {
            "author": author,
            "patron": _other_person(rng, titles, author),
            "setting": rng.choice(titles.towns),
            "appeared": rng.choice(years),
        }
        works.append(Entity(Kind.WORK, work, facts, form=work.split()[0]))
    return works


def _institutions(rng: random.Random, titles: _Titles, years: list[str]) -> list[Entity]:
    institutions = []
    for institution in titles.institutions:
        head = rng.choice(titles.people)
        facts = {
            "head": head,
            "founder": _other_person(rng, titles, head),
            "seat": rng.choice(titles.towns),
            "opened": rng.choice(years),
        }
        institutions.append(Entity(Kind.INSTITUTION, institution, facts, form=institution.split()[-1]))
    return institutions


def _rivers(rng: random.Random, titles: _Titles) -> list[Entity]:
    return [
        Entity(Kind.RIVER, river, dict(zip(("source", "mouth"), rng.sample(titles.towns, 2), strict=True)))
        for river in titles.rivers
    ]


def _families(titles: _Titles) -> list[Entity]:
    """A dead end for every surname that two people or more bear."""
    bearers: dict[str, list[str]] = {}
    for person in titles.people:
        bearers.setdefault(_surname(person), []).append(person)
    return [
        Entity(Kind.FAMILY, surname, {}, related=tuple(people[:3]))
        for surname, people in bearers.items()
        if len(people) > 1
    ]


def _ruins(titles: _Titles) -> list[Entity]:
    """`Old X` for the towns with an alias; its article calls the town by the alias, so that the alias misleads."""
    return [Entity(Kind.RUIN, f"Old {town}", {}, related=(alias,)) for town, alias in titles.aliases.items()]


def _other_person(rng: random.Random, titles: _Titles, person: str) -> str:
    """Somebody else; one time in three a relative, whose name differs in the first word alone."""
    relatives = [other for other in titles.people if other != person and _surname(other) == _surname(person)]
    if relatives and rng.random() < 1 / 3:
        return rng.choice(relatives)
    return rng.choice([other for other in titles.people if other != person])


def _surname(person: str) -> str:
    return person.split()[-1]
