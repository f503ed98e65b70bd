"""Settings as plain values: all of them, or only those that decide bits."""

from __future__ import annotations

import dataclasses
from typing import Any

from rest_jax.core.canonical import digest

FREE = {"free": True}
"""Metadata of a dataclass's field that changes no bits: a run may go on with another value of it."""


def as_plain(value: Any, *, decisive: bool = False) -> Any:
    """Settings as dicts, lists and scalars, in the order of their fields; `decisive`: without the free ones."""
    if dataclasses.is_dataclass(value):
        return {
            field.name: as_plain(getattr(value, field.name), decisive=decisive)
            for field in dataclasses.fields(value)
            if not (decisive and "free" in field.metadata)
        }
    return [as_plain(item, decisive=decisive) for item in value] if isinstance(value, tuple) else value


def settings_digest(settings: Any) -> str:
    """12 hex digits that are others as soon as a setting is another one that decides bits."""
    return digest(as_plain(settings, decisive=True))[:12]
