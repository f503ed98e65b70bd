"""JSONL from outside: every line an object, and errors that name file and line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from rest_jax.core.canonical import canonical_json
from rest_jax.core.errors import UserError

T = TypeVar("T")


def read_rows(path: Path, parse: Callable[[dict[str, Any]], T], what: str, shape: str) -> Iterator[T]:
    """What `parse` makes of each line's object (UTF-8; blank lines are left out).

    Raises UserError that names the file, and the line where there is one: for a file that cannot be read, a line that
    is no JSON object, text that is no valid Unicode, and whatever `parse` refuses by a ValueError. `what` names a row
    in the message, `shape` says what a line should be.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    try:
                        parsed = parse(_object(line))
                    except (ValueError, RecursionError) as error:
                        raise UserError(f"{path}:{number}: malformed {what} ({error}); a line is {shape}") from error
                    yield parsed
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}; name a JSONL file in which a line is {shape}"
        ) from error


def _object(line: bytes) -> dict[str, Any]:
    row = json.loads(line.decode("utf-8-sig"))
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    # What JSON can spell but neither digests nor tokenizers hold: \ud800 is no character, NaN no number.
    canonical_json(row).encode()
    return row
