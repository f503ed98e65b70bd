"""What settings may be, beyond their types: limits on values, and settings that do not go together.

Checked on whole settings, once files and overrides have been put together: an override may pass through a state that
would not do.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, Literal, Protocol, TypeVar, get_args, get_origin, get_type_hints, runtime_checkable

from rest_jax.core.errors import UserError

T = TypeVar("T")
Keyword = Literal["minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "minItems", "uniqueItems"]


@dataclass(frozen=True)
class Limit:
    """A limit on a value, named by its keyword of JSON Schema: editors and the loader go by the same one."""

    keyword: Keyword
    value: float


Positive = Annotated[int, Limit("minimum", 1)]
Natural = Annotated[int, Limit("minimum", 0)]
AboveZero = Annotated[float, Limit("exclusiveMinimum", 0)]
NotNegative = Annotated[float, Limit("minimum", 0)]
Share = Annotated[float, Limit("minimum", 0), Limit("maximum", 1)]
ShareAboveZero = Annotated[float, Limit("exclusiveMinimum", 0), Limit("maximum", 1)]
Seed = Annotated[int, Limit("minimum", 0), Limit("maximum", 2**32 - 1)]
"""Half of a random key is the seed: 32 bits."""
Some = Annotated[tuple[T, ...], Limit("minItems", 1)]
Distinct = Annotated[tuple[T, ...], Limit("uniqueItems", True)]


@dataclass(frozen=True)
class Fault:
    """A setting that will not do: its path from the top, and what is expected of it."""

    path: tuple[str, ...]
    message: str


@runtime_checkable
class Harmonious(Protocol):
    """Settings that know which of their fields have to go together."""

    def conflicts(self) -> Iterable[tuple[str, str]]:
        """(field, message) for each field that does not go with the others."""
        ...


def checked(settings: T, name: str = "") -> T:
    """The settings themselves. Raises UserError for the first one that will not do; `name` says what they are."""
    for fault in faults(settings, type(settings), (name,) if name else ()):
        raise UserError(f"{'.'.join(fault.path)}: {fault.message}")
    return settings


def faults(value: Any, kind: Any, path: tuple[str, ...] = ()) -> Iterator[Fault]:
    """What will not do in a value of type `kind`, limits included; conflicts only inside parts that are else right."""
    if value is None:
        return
    kind, limits = _parted(kind)
    for limit in limits:
        expected, holds = _MEANING[limit.keyword]
        if not holds(value, limit.value):
            shown = list(value) if isinstance(value, tuple) else value
            yield Fault(path, f"expected {expected.format(limit.value)}, got {shown}")
    if get_origin(kind) is Literal and value not in get_args(kind):
        yield Fault(path, f"expected one of {', '.join(get_args(kind))}, got {value}")
    if isinstance(value, float) and not math.isfinite(value):
        yield Fault(path, f"expected a finite number, got {value}")
    if isinstance(value, tuple):
        for place, entry in enumerate(value):
            yield from faults(entry, get_args(kind)[0], (*path, str(place)))
    if dataclasses.is_dataclass(value):
        kinds = annotated_kinds(type(value))
        inside = [fault for name in kinds for fault in faults(getattr(value, name), kinds[name], (*path, name))]
        yield from inside
        if not inside and isinstance(value, Harmonious):
            yield from (Fault((*path, field), message) for field, message in value.conflicts())


def annotated_kinds(kind: Any) -> dict[str, Any]:
    """The annotation of every field of a dataclass, limits included."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _parted(kind: Any) -> tuple[Any, tuple[Limit, ...]]:
    """A type and its limits; of `T | None` those of T."""
    if NoneType in get_args(kind):
        (kind,) = (option for option in get_args(kind) if option is not NoneType)
    return (kind.__origin__, kind.__metadata__) if get_origin(kind) is Annotated else (kind, ())


_MEANING: dict[Keyword, tuple[str, Callable[[Any, float], bool]]] = {
    "minimum": ("at least {}", lambda value, limit: value >= limit),
    "exclusiveMinimum": ("more than {}", lambda value, limit: value > limit),
    "maximum": ("at most {}", lambda value, limit: value <= limit),
    "exclusiveMaximum": ("less than {}", lambda value, limit: value < limit),
    "minItems": ("{} or more entries", lambda value, limit: len(value) >= limit),
    "uniqueItems": ("every entry once", lambda value, _: len(set(value)) == len(value)),
}
