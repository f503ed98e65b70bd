"""`--set a.b=c`: one setting replaced from the command line, typed as in a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar, get_args, get_origin

import yaml

from rest_jax.config.coerce import field_kinds, value_of
from rest_jax.config.source import Misfit, compose, did_you_mean
from rest_jax.core.errors import UserError

T = TypeVar("T")


def overridden(value: T, overrides: Sequence[str]) -> T:
    """`value` with each `a.b=c` applied in order; a number in the path picks a list's entry, from 0.

    Raises `UserError` that names the override and the part of it that does not fit.
    """
    for override in overrides:
        key, equals, text = override.partition("=")
        where = f"--set {override}"
        if not equals or not key:
            raise UserError(f"{where}: expected KEY=VALUE, such as --set generations.0.grow.samples=8")
        try:
            value = _replaced(value, type(value), key.split("."), (), text)
        except Misfit as misfit:
            raise UserError(f"{where}: {misfit}") from None
        except yaml.YAMLError:
            raise UserError(f"{where}: '{text}' is not YAML; put it in quotes") from None
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    return value


def _replaced(value: Any, kind: Any, parts: Sequence[str], above: tuple[str, ...], text: str) -> Any:
    """`value` with the setting at `parts` read from `text`."""
    path = ".".join(above)
    if not parts:
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            raise UserError(f"{path} is a group of settings; name one of {', '.join(field_kinds(kind))}")
        node = compose(text, path) or compose("null", path)
        assert node is not None
        return value_of(node, kind, path)
    part, rest = parts[0], parts[1:]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kinds = field_kinds(type(value))
        if part not in kinds:
            inside = f" in {path}" if path else ""
            raise UserError(f"unknown key '{part}'{inside}; {did_you_mean(part, kinds)}")
        new = _replaced(getattr(value, part), kinds[part], rest, (*above, part), text)
        return dataclasses.replace(value, **{part: new})
    if isinstance(value, tuple) and get_origin(kind) is tuple:
        if not part.isdecimal() or int(part) >= len(value):
            raise UserError(f"{path} has no entry '{part}'; its entries count from 0 to {len(value) - 1}")
        index = int(part)
        new = _replaced(value[index], get_args(kind)[0], rest, (*above, part), text)
        return (*value[:index], new, *value[index + 1 :])
    raise UserError(f"{path} is one value and has no part '{part}'; set {path} itself")
