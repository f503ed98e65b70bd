"""Paths that commands write to."""

from __future__ import annotations

from pathlib import Path

from rest_jax.core.errors import UserError


def refuse_unwritable(target: Path) -> None:
    """Raise UserError when a file could not be written there: better before the work than after it."""
    if not target.parent.is_dir() or target.is_dir():
        raise UserError(f"{target}: cannot be written; make the folder {target.parent}, or name another file")
