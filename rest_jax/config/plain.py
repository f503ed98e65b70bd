"""Settings as plain values: all of them, or only those that decide bits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from rest_jax.core.canonical import digest

FREE = {"free": True}
"""Metadata of a dataclass's field that changes no bits: a run may go on with another value of it."""


def as_plain(value: Any, *, decisive: bool = False) -> Any:
    """Settings, or a mapping that holds some, as dicts, lists and scalars, in the order of their fields; `decisive`:
    without the free ones."""
    if dataclasses.is_dataclass(value):
        return {
            field.name: as_plain(getattr(value, field.name), decisive=decisive)
            for field in dataclasses.fields(value)
            if not (decisive and "free" in field.metadata)
        }
    if isinstance(value, Mapping):
        return {key: as_plain(item, decisive=decisive) for key, item in value.items()}
    return [as_plain(item, decisive=decisive) for item in value] if isinstance(value, tuple | list) else value


def differing(stored: Any, value: Any, name: str = "") -> list[str]:
    """The names (a.b.c) of what decides bits and is not as it was stored (`as_plain`).

    A setting that was not stored is newer than what was, and counts as its default: so far there was no other.
    """
    if dataclasses.is_dataclass(value) and isinstance(stored, Mapping):
        fields = [field for field in dataclasses.fields(value) if "free" not in field.metadata]
        stored = {**{field.name: _default(field) for field in fields}, **stored}
        value = {field.name: getattr(value, field.name) for field in fields}
    if isinstance(value, Mapping) and isinstance(stored, Mapping):
        keys = dict.fromkeys([*stored, *value])
        pairs = {str(key): (stored.get(key), value.get(key)) for key in keys}
    elif isinstance(value, tuple | list) and isinstance(stored, list) and len(value) == len(stored):
        pairs = {str(place): pair for place, pair in enumerate(zip(stored, value, strict=True))}
    else:
        return [] if as_plain(value, decisive=True) == stored else [name]
    return [path for key, pair in pairs.items() for path in differing(*pair, f"{name}.{key}" if name else key)]


def _default(field: dataclasses.Field[Any]) -> Any:
    """A field's default as it would have been stored; None where it has none."""
    if field.default_factory is not dataclasses.MISSING:
        return as_plain(field.default_factory(), decisive=True)
    return None if field.default is dataclasses.MISSING else as_plain(field.default, decisive=True)


def settings_digest(settings: Any) -> str:
    """12 hex digits that are others as soon as a setting is another one that decides bits."""
    return digest(as_plain(settings, decisive=True))[:12]
