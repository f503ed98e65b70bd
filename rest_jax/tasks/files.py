"""JSONL in and out: errors that name file and line; files that are there whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rest_jax.core.errors import UserError


def read_jsonl(path: Path, fields: Mapping[str, type], what: str) -> Iterator[dict[str, Any]]:
    """The rows of a JSONL file (UTF-8), blank lines left out; every row has these fields of these types.

    Raises UserError that names the file, and the line where there is one. `what` names a row in the message.
    """
    shape = "{" + ", ".join(f'"{name}": {kind.__name__}' for name, kind in fields.items()) + "}"
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _row(line, fields, f"{path}:{number}: malformed {what}", shape)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; a file of lines {shape} is needed there") from error


def _row(line: bytes, fields: Mapping[str, type], where: str, shape: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} ({error}); a line is {shape}") from error
    if not isinstance(row, dict):
        raise UserError(f"{where} (not a JSON object); a line is {shape}")
    for name, kind in fields.items():
        if name not in row:
            raise UserError(f'{where} ("{name}" is missing); a line is {shape}')
        if not isinstance(row[name], kind):
            raise UserError(f'{where} ("{name}" is {type(row[name]).__name__}); a line is {shape}')
    return row


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSONL; the file appears whole or not at all, and stays untouched when it has these bytes."""
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(file.name, path)
