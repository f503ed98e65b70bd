"""Recorded replies: what makes an endpoint a function, as a model of one's own is by its keys.

Sampling elsewhere is nothing that anybody here can repeat. So every reply is kept, under a key that names all that was
asked: a run that was killed goes on with the replies that it has, and a file of them answers another run to the byte.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rest_jax.core.appended import Appended
from rest_jax.core.errors import UserError
from rest_jax.policies.wire import Answer

HEAD = {"replies_version": 1}


class Replies:
    """A file of replies; only keys and places are held in memory. They are durable after `commit`."""

    def __init__(self, path: Path, *, writable: bool = True) -> None:
        """Open the file at `path`, and create it where it may be written; a last line that a crash tore is left out.

        Raises UserError when there is no such file, when it is damaged or of another version.
        """
        self.path = path
        self._places: dict[bytes, int] = {}
        mend = "delete the line to ask for its reply again"
        try:
            self._file = Appended(path, HEAD, self._take, mend=mend, writable=writable)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}; name a file of recorded replies (replies/ROLE.jsonl)") from None

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: str) -> Answer | None:
        """The reply that was recorded under a key (sha256, hex)."""
        place = self._places.get(bytes.fromhex(key))
        return None if place is None else _answer(self._file.at(place))

    def put(self, key: str, answer: Answer) -> None:
        """Record a reply before anybody gets it; the first one of a key stays."""
        name = bytes.fromhex(key)
        if name not in self._places:
            self._places[name] = self._file.add({"key": key, **asdict(answer)})

    def commit(self) -> None:
        """Return when everything recorded so far is on the disk."""
        self._file.commit()

    def close(self) -> None:
        self._file.close()

    def _take(self, place: int, row: dict[str, Any]) -> None:
        _answer(row)
        self._places.setdefault(bytes.fromhex(row["key"]), place)


def _answer(row: dict[str, Any]) -> Answer:
    ids, logprobs = row["ids"], row["logprobs"]
    return Answer(
        text=row["text"],
        finish=row["finish"],
        ids=None if ids is None else tuple(ids),
        logprobs=None if logprobs is None else tuple(np.asarray(logprobs, np.float32).tolist()),
    )
