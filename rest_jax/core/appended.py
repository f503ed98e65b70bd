"""JSON lines that are only ever added to, safe against `kill -9` at any byte: what a run must not do, or pay, twice."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rest_jax.core.errors import UserError


class Appended:
    """An open file of rows. They are handed to the system at once, and are durable after `commit`."""

    def __init__(
        self,
        path: Path,
        head: Mapping[str, Any],
        take: Callable[[int, Any], None],
        *,
        mend: str,
        writable: bool = True,
    ) -> None:
        """Open the file, and create it where it may be written; a last line that a crash tore is left out.

        `head` is the first line, and its last entry the version of what follows. `take` is given each row with its
        place, and refuses one by a KeyError, TypeError or ValueError. Raises UserError for a damaged line, with `mend`
        as what to do about it, and for another version; OSError when there is no such file.
        """
        self.path = path
        self._end = 0
        if writable:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab+" if writable else "rb")
        try:
            self._load(head, take, mend)
            if writable:
                self._file.truncate(self._end)
            if writable and self._end == 0:
                self.add(head)
        except BaseException:
            self._file.close()
            raise

    def add(self, row: Mapping[str, Any]) -> int:
        """Write a row; returns its place, by which `at` finds it."""
        line = json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
        self._file.write(line)
        self._file.flush()
        self._end += len(line)
        return self._end - len(line)

    def at(self, place: int) -> Any:
        """The row at a place."""
        self._file.seek(place)
        return json.loads(self._file.readline())

    def commit(self) -> None:
        """Return when everything that was added is on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def _load(self, head: Mapping[str, Any], take: Callable[[int, Any], None], mend: str) -> None:
        *_, (name, version) = head.items()
        self._file.seek(0)
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                row = json.loads(line)
                if number > 1:
                    take(self._end, row)
                elif row[name] != version:
                    raise UserError(
                        f"{self.path}: {name.replace('_', ' ')} {row[name]}, this program reads {version}; use the "
                        f"version of rest_jax that wrote it, or run in another folder"
                    )
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(f"{self.path}:{number}: damaged; {mend}") from error
            self._end += len(line)
