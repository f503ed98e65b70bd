"""A corpus of passages: read from JSONL, put in a canonical order, and named by its digest."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rest_jax.core.canonical import digest_lines
from rest_jax.core.errors import UserError
from rest_jax.core.jsonl import read_rows

_SHAPE = '{"title": …, "text": …} or {"id": …, "contents": "TITLE\\nTEXT"}'


@dataclass(frozen=True, slots=True, order=True)
class Passage:
    """A titled stretch of text. Several passages may carry one title."""

    title: str
    text: str


@dataclass(frozen=True)
class Corpus:
    """Passages sorted by (title, text), each once: a passage's position is its id, whatever the file's order."""

    passages: tuple[Passage, ...]
    digest: str
    """sha256 (hex) over the canonical JSON of the passages, a line each."""


def corpus_of(passages: list[Passage]) -> Corpus:
    """The corpus of these passages, in any order; exact repetitions count once."""
    ordered = tuple(sorted(set(passages)))
    return Corpus(ordered, digest_lines(asdict(passage) for passage in ordered))


def read_corpus(path: Path) -> Corpus:
    """Read a JSONL file of passages (UTF-8); further keys of a line are ignored, and so are blank lines.

    Raises UserError naming the file, and the line where there is one, when it cannot be read.
    """
    passages = list(read_rows(path, passage_of, "passage", _SHAPE))
    if not passages:
        raise UserError(f"the corpus {path} is empty; name a JSONL file in which a line is {_SHAPE}")
    return corpus_of(passages)


def passage_of(row: dict[str, Any]) -> Passage:
    """The passage in a row of either shape. Raises ValueError saying what is wrong with it."""
    if "contents" in row:
        title, _, text = _string(row, "contents").partition("\n")
        title = title.strip().strip('"')
    else:
        title, text = _string(row, "title").strip(), _string(row, "text")
    if not title:
        raise ValueError("the title is empty")
    return Passage(title, text.strip())


def _string(row: dict[str, Any], key: str) -> str:
    if not isinstance(row.get(key), str):
        raise ValueError(f'"{key}" is {"not a string" if key in row else "missing"}')
    return row[key]
