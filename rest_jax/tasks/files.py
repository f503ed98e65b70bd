"""JSONL in and out: errors that name file and line; files that are there whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rest_jax.core.files import written_whole
from rest_jax.core.jsonl import read_rows


def read_jsonl(path: Path, fields: Mapping[str, type], what: str) -> Iterator[dict[str, Any]]:
    """The rows of a JSONL file (UTF-8), blank lines left out; every row has these fields of these types.

    Raises UserError that names the file, and the line where there is one. `what` names a row in the message.
    """
    shape = "{" + ", ".join(f'"{name}": {kind.__name__}' for name, kind in fields.items()) + "}"

    def checked(row: dict[str, Any]) -> dict[str, Any]:
        for name, kind in fields.items():
            if name not in row:
                raise ValueError(f'"{name}" is missing')
            if not isinstance(row[name], kind):
                raise ValueError(f'"{name}" is {type(row[name]).__name__}')
        return row

    return read_rows(path, checked, what, shape)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSONL; the file appears whole or not at all, and stays untouched when it has these bytes."""
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    if path.exists() and path.read_bytes() == content:
        return
    with written_whole(path) as part:
        part.write_bytes(content)
