"""What must reach a user who asked for no progress: warnings and notices, a line each on stderr."""

from __future__ import annotations

import sys

from rest_jax.core.events import Event
from rest_jax.core.text import printable


def to_stderr(event: Event) -> None:
    """A listener that prints warnings and notices, and nothing else."""
    if event.kind in ("warning", "notice"):
        said = "warning: " if event.kind == "warning" else ""
        print(f"rest_jax: {said}{printable(event.data['text'])}", file=sys.stderr)
