"""A configuration: YAML file, what it extends and `--set` overrides, read strictly into a frozen dataclass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import yaml
from yaml.nodes import Node

from rest_jax.config.coerce import value_of
from rest_jax.config.limits import Fault, checked, faults
from rest_jax.config.overrides import overridden
from rest_jax.config.plain import as_plain
from rest_jax.config.source import Misfit, nearest, place, read
from rest_jax.core.canonical import digest
from rest_jax.core.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """A configuration, ready to run and to be written into the run's folder."""

    value: T
    digest: str
    """sha256 (hex) of the canonical JSON of all settings that decide bits: equal ones have one digest, however they
    were written."""
    text: str
    """Every setting as YAML, defaults included; loading it gives the same value."""


def load(path: Path | str, kind: type[T], overrides: Sequence[str] = ()) -> Loaded[T]:
    """The settings in a YAML file, with `extends: other.yaml` followed and overrides (`a.b=c`) applied in order.

    Raises `UserError`, `file:line:column: what; how to mend it`, for text that is no YAML, unknown or duplicate keys
    and values that the dataclass does not allow. What is said of a setting that an override changed begins with that
    override instead.
    """
    top = read(Path(path))
    try:
        value = value_of(top, kind, "")
    except Misfit as misfit:
        raise UserError(f"{place(misfit.node)}: {misfit}") from None
    value = overridden(value, overrides)
    for fault in faults(value, kind):
        raise UserError(f"{_origin(fault, top, overrides)}: {'.'.join(fault.path)}: {fault.message}")
    return loaded(value)


def loaded(value: T) -> Loaded[T]:
    """Settings made in Python, with the digest and text that a file of them would have.

    Raises UserError for values that their dataclass does not allow.
    """
    text = yaml.safe_dump(as_plain(checked(value)), sort_keys=False, allow_unicode=True, width=120)
    return Loaded(value, digest(as_plain(value, decisive=True)), text)


def _origin(fault: Fault, top: Node, overrides: Sequence[str]) -> str:
    """Where a setting was written: the last override that touched it, else its place in the file."""
    for override in reversed(overrides):
        shared = zip(override.partition("=")[0].split("."), fault.path, strict=False)
        if all(mine == theirs for mine, theirs in shared):
            return f"--set {override}"
    return place(nearest(top, fault.path))
