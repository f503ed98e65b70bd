"""Paths that commands write to."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile

from rest_jax.core.errors import UserError


def refuse_unwritable(target: Path) -> None:
    """Raise UserError when a file could not be written there: better before the work than after it."""
    if not target.parent.is_dir():
        raise UserError(f"{target}: cannot be written; make the folder {target.parent}, or name another file")
    if target.is_dir():
        raise UserError(f"{target}: is a folder; name a file in it")
    try:
        with TemporaryFile(dir=target.parent):  # what the system will allow, only trying tells
            pass
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror}); name another file") from None
