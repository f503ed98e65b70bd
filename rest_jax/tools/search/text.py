"""How the tools see text: titles compared, words searched, sentences looked up."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

import Stemmer

STEMMER = "english"
"""The Snowball stemmer that words go through."""

_LUCENE = """
a an and are as at be but by for if in into is it no not of on or such that the their then there these they this to was
will with
"""
STOP_WORDS = frozenset(_LUCENE.split())
"""Lucene's English stop words: they are neither indexed nor searched."""

_WORD = re.compile(r"\w+")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+")


def normalise(text: str) -> str:
    """The form in which titles and keywords are compared: NFKC, case folded, runs of white space made one space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def stems(texts: Iterable[str]) -> list[list[str]]:
    """For each text the stems of its words, in order, without stop words. A word is a run of letters and digits."""
    stemmer = Stemmer.Stemmer(STEMMER)  # one for each call: a stemmer must not be shared between threads
    return [
        stemmer.stemWords([word for word in _WORD.findall(normalise(text)) if word not in STOP_WORDS]) for text in texts
    ]


def sentences(text: str) -> list[str]:
    """Split after `.`, `!` or `?` (and a closing quote or bracket) before white space, and at line ends.

    As in ReAct's Wikipedia tool, abbreviations are not recognised: "Dr. Who" is two sentences.
    """
    found = []
    for line in text.splitlines():
        start = 0
        for end in _SENTENCE_END.finditer(line):
            found.append(line[start : end.end()].strip())
            start = end.end()
        found.append(line[start:].strip())
    return [sentence for sentence in found if sentence]
