"""Invented names for Atlas: two syllables each, short in tokens, no word shared by two worlds.

The syllables were chosen so that a name is two tokens of common byte-pair vocabularies (SmolLM2's among them), and
`EXCLUDED` lists the combinations that turned out to be words or names of our own world.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

ONSETS = """
Bor Bren Bur Cel Cor Cul Dal Dar Dim Dor Dul Dun Fal Fen Fer Fol Gar Gol Gor Har Hel Hol Hor Hul Jal Jar Jul Kal
Kar Kel Ker Kil Kor Lar Lor Mir Mor Mun Nar Ner Nor Pel Pir Pol Por Rol Ros Rud Sel Ser Sil Sor Sul Tal Tel Tir
Tol Tor Tul Tur Ul Vel Ven Ver Vin Vol Wen Wil Wol Yor Zel Zen
"""
PLACE_ENDINGS = "wick orn und isk ost ark hal wen ast ond"
SURNAME_ENDINGS = "rel vel ith om ov ak zel gan uth ath"
THING_ENDINGS = "hel ron ish win zo oth olt usk ris rim"

EXCLUDED = """
Borusk Burolt Burost Buroth Burov Burris Burwick Corgan Correl Corwen Culark Culusk Darrel Darrim Darron Darwen
Darwin Dimond Dorgan Dorusk Dulark Dulusk Duluth Dunast Fenwick Fenzel Ferris Gargan Garrel Garrim Garris Garwin
Gorusk Harish Harris Harron Harwick Horgan Hulark Hulusk Jarrim Julark Karrim Kelwin Kerris Kerwin Korak Korusk
Larrim Lorusk Mirolt Miroth Mirusk Morgan Morris Narak Nerrim Nerris Norris Norwick Pirak Pirolt Pirost Piroth
Pirov Pirusk Polish Porusk Rosisk Selwin Serrim Serris Sorusk Sulark Sulusk Tirak Tirolt Tirost Tiroth Tirov
Tirusk Tulark Tulusk Turolt Turost Turoth Turov Velish Venom Verrim Verris Vingan Wenzel Yorusk Zenith Zenzel
"""


@dataclass(frozen=True)
class Names:
    """The words of one world, each tuple in a random order. No word stands in two tuples or in two worlds."""

    first: tuple[str, ...]
    surnames: tuple[str, ...]
    places: tuple[str, ...]
    things: tuple[str, ...]
    """For works, institutions and rivers."""


def names_of_worlds(seed: int, worlds: int) -> tuple[Names, ...]:
    """Deal every possible word to one of the worlds."""
    rng = random.Random(f"atlas/names/{seed}")
    first = _dealt(rng, ONSETS.split(), worlds)
    surnames, places, things = (
        _dealt(rng, _words(endings), worlds) for endings in (SURNAME_ENDINGS, PLACE_ENDINGS, THING_ENDINGS)
    )
    return tuple(Names(*dealt) for dealt in zip(first, surnames, places, things, strict=True))


def _words(endings: str) -> list[str]:
    excluded = set(EXCLUDED.split())
    words = [onset + ending for onset in ONSETS.split() for ending in endings.split()]
    return [word for word in words if word not in excluded]


def _dealt(rng: random.Random, words: Sequence[str], hands: int) -> list[tuple[str, ...]]:
    shuffled = rng.sample(words, len(words))
    return [tuple(shuffled[hand::hands]) for hand in range(hands)]
