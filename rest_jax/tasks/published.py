"""Published datasets as data: their files, where they come from, how a row is read, and how questions are split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rest_jax.core.answers import normalise
from rest_jax.core.errors import UserError
from rest_jax.core.trajectory import Question
from rest_jax.tasks.splits import Split

Row = Mapping[str, Any]


@dataclass(frozen=True)
class File:
    """A file of a dataset. With an url it is downloaded, and any file of its name must have this sha256; without one
    it has to be given, and may be a sample."""

    name: str
    url: str = ""
    size: int = 0
    """Bytes."""
    sha256: str = ""


@dataclass(frozen=True)
class Dataset:
    """What its builder needs to know of a dataset."""

    name: str
    homepage: str
    files: Mapping[str, File]
    """By TFDS split."""
    fields: Mapping[str, type]
    """Each field of a row, str or list (of str); `id` is among them."""
    parse: Callable[[Path], Iterable[Row]]
    """The rows of a file. Raises UserError, with file and line, for one that is missing or malformed."""
    version: str = "1"
    """Rises when the same files would give other rows; it is their task's too."""

    @property
    def obtain(self) -> str:
        """How to come by its files, for an error's last words."""
        wanted = " and ".join(f"{self.name}/{file.name}" for file in self.files.values())
        folder = f"give --data (task.data) a folder that holds {wanted}"
        places = [file.url for file in self.files.values() if file.url]
        if len(places) < len(self.files):
            return f"{folder} (published at {self.homepage})"
        return f"{folder}, or leave it out to download {' and '.join(places)}"


def read_json(path: Path, fields: Mapping[str, type | tuple[type, ...]], what: str) -> Iterator[dict[str, Any]]:
    """The rows of a JSON file that holds one list of objects; every row has these fields of these types.

    Raises UserError that names the file, and the row where there is one. `what` names a row in the message.
    """
    shape = f"[{{{', '.join(fields)}}}, …]"
    try:
        rows = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; name a JSON file {shape}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: malformed ({error}); it should be {shape}") from error
    if not isinstance(rows, list):
        raise UserError(f"{path}: malformed (not a list); it should be {shape}")
    for number, row in enumerate(rows):
        wrong = not isinstance(row, dict) or [n for n, kind in fields.items() if not isinstance(row.get(n), kind)]
        if wrong:
            named = wrong[0] if isinstance(wrong, list) else "no object"
            raise UserError(f"{path}: malformed {what} {number} ({named}); it should be {shape}")
        yield row


def halves(questions: Sequence[Question]) -> dict[Split, tuple[Question, ...]]:
    """Select and report of a set that has no test set beside it: its halves (`divided`)."""
    select, report = divided(questions, (len(questions) + 1) // 2)
    return {Split.SELECT: select, Split.REPORT: report}


def divided(questions: Sequence[Question], first: int) -> tuple[tuple[Question, ...], tuple[Question, ...]]:
    """The first n questions and the others, in an order that the sha256 of each normalised question decides. Questions
    in the same words stay together, for one would tell the other's answer."""

    def place(question: Question) -> tuple[str, str]:
        return hashlib.sha256(normalise(question.text).encode()).hexdigest(), question.id

    ordered = sorted(questions, key=place)
    while 0 < first < len(ordered) and place(ordered[first])[0] == place(ordered[first - 1])[0]:
        first += 1
    return tuple(ordered[:first]), tuple(ordered[first:])


def with_golds(id: str, text: str, golds: Sequence[str], meta: Mapping[str, Any] | None = None) -> Question:
    """A question whose gold answers are a list."""
    answer, *others = golds
    return Question(id, text, answer, meta or {}, tuple(others))


def gold_pages(evidence: Sequence[str]) -> dict[str, Any]:
    """The `meta` of a question that any of several sets of pages answers, each the titles joined by "|", which no title
    holds: `evidence`, the sets, and `titles`, all of their pages."""
    sets = [pages.split("|") for pages in evidence]
    return {"titles": sorted({page for pages in sets for page in pages}), "evidence": sets}
