"""metrics.jsonl: every number a run emits, one JSON object a line, appended as it comes."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any, TextIO

from rest_jax.core.events import Event


class MetricsFile:
    """A listener that appends metrics, warnings and stage ends to a file; use it as a context manager.

    The file is made with its first line, so that a run that is refused leaves nothing behind.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None

    def __enter__(self) -> MetricsFile:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file:
            self._file.close()

    def __call__(self, event: Event) -> None:
        if event.kind in ("metrics", "warning", "stage_finished"):
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("a", encoding="utf-8")
            line = {"time": round(time.time(), 3), "kind": event.kind, **{k: _plain(v) for k, v in event.data.items()}}
            self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
            self._file.flush()


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
