"""Canonical JSON and digests: two equal things have one digest, on every machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces; floats by their shortest exact form; NaN refused."""
    return _encoder.encode(value)


def digest(value: Any) -> str:
    """sha256 (hex) of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def digest_lines(values: Iterable[Any]) -> str:
    """sha256 (hex) over the canonical JSON of each value, a line each, in the given order."""
    hasher = hashlib.sha256()
    for value in values:
        hasher.update(canonical_json(value).encode() + b"\n")
    return hasher.hexdigest()


def digest_file(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
