"""Files that are there whole or not at all: a reader sees the old content or the new one, even after a crash."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

PART = ".part"
"""How the name of a file ends that is still being written; one that a kill left behind may be removed."""


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A new file's path, to be written in a `with` block; it becomes `path` when the block ends without an error.

    Makes `path`'s folder where it is missing. Several processes may write one `path`: the last one's file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{uuid4().hex}{PART}")
    try:
        yield part
        _sync(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    _sync(path.parent)  # a rename survives a power cut once its folder is synced


def write_json(path: Path, value: Any) -> None:
    """Write JSON (UTF-8, indented), whole or not at all. Raises ValueError for NaN and infinities."""
    with written_whole(path) as part:
        part.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def part_of(path: Path, index: int) -> Path:
    """Where one of several processes, by its number, keeps its part of a file: process 0 in the file itself."""
    return path if index == 0 else path.with_name(f"{path.stem}-{index}{path.suffix}")


def parts_of(path: Path) -> list[Path]:
    """The parts of a file that are there, by however many processes they were made."""
    return [*([path] if path.is_file() else []), *path.parent.glob(f"{path.stem}-[1-9]*{path.suffix}")]


def append_whole(path: Path, line: bytes) -> None:
    """Add to a file, or leave it as it is and raise OSError: half a line would spoil the next one. For one writer."""
    with path.open("ab", buffering=0) as file:
        whole = file.tell()
        try:
            while line:
                line = line[file.write(line) :]
        except OSError:
            file.truncate(whole)
            raise


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
