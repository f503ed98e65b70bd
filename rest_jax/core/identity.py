"""What a value is: the code that it is made of, and the data that this was given.

Two rewards of one class differ by their fields, two agents of one factory by what it closed over. Nothing here depends
on the process: no address, no hash of a string, no order of a set.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType, NoneType
from typing import Any

from rest_jax.core.canonical import digest, digest_file, digest_lines

PACKAGES = ("jax", "jaxlib", "flax", "transformers")
"""Those whose versions a run notes."""
OTHERS = frozenset({*sys.stdlib_module_names, *PACKAGES})
KNOWN = OTHERS | {"rest_jax"}
"""Where code is known by its name: a run notes these versions, and a digest of this package's code, apart from what is
made with them, and goes on with later ones."""
PLAIN = (NoneType, bool, int, float, complex, str, bytes)
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@dataclass(frozen=True)
class Code:
    """A function or a class."""

    place: str
    """Its module and its name there."""
    written: str
    """What tells it from another, in whatever module: its name, and its source where Python knows it."""


Part = Code | tuple[str, str]
"""Code, or a kind of data and what is said of it."""
Met = dict[int, tuple[int, Any]]
"""By id: when something was met, and the thing itself, for an id is another's as soon as the thing is gone."""


def identity(value: Any) -> str:
    """sha256 (hex) of a value: of functions the source of their file, their defaults and what they close over; of
    partials the function and its arguments; of instances their class and their fields (what `__getstate__` says); of
    containers what they hold; of arrays their numbers; of anything else its repr.

    Code of Python, of `PACKAGES` and of this package is known by its name. What a function calls in other files is not
    looked at.
    """
    return digest_lines(part.written if isinstance(part, Code) else part for part in _parts(value, {}))


def places(value: Any) -> tuple[str, ...]:
    """Where the functions and classes are written of which a value is made, without those inside of them: the same
    places where it is defined again."""
    found = list[str]()
    for part in _parts(value, {}):
        if isinstance(part, Code) and not part.place.startswith(tuple(f"{outer}." for outer in found)):
            found.append(part.place)
    return tuple(found)


def _parts(value: Any, met: Met) -> Iterator[Part]:
    """Its parts in order. How many follow is said before them, so that no two values have one list."""
    kind = type(value).__name__
    if isinstance(value, PLAIN):
        yield kind, repr(value)
    elif id(value) in met:
        yield "again", str(met[id(value)][0])
    else:
        met[id(value)] = (len(met), value)
        if isinstance(value, FunctionType | BuiltinFunctionType | type):
            yield _code(value)
        held = _held(value)
        yield kind, str(len(held))
        for each in held:
            yield from _parts(each, met)


def _held(value: Any) -> Sequence[Any]:
    """What a value is made of, beside a name and source of its own."""
    match value:
        case FunctionType():
            given = [value.__defaults__, value.__kwdefaults__, *map(_content, value.__closure__ or ())]
            told = _source(value.__code__) and value.__code__.co_name != "<lambda>"  # of which a line may hold several
            return given if told else [*given, value.__code__]
        case CodeType():
            return [value.co_code, value.co_names, value.co_consts]
        case MethodType():
            return [value.__func__, value.__self__]
        case BuiltinFunctionType():
            return [value.__self__]
        case ModuleType():
            return [value.__name__]
        case type():
            return _members(value)
        case staticmethod() | classmethod():
            return [value.__func__]
        case property():
            return [value.fget, value.fset, value.fdel]
        case partial():
            return [value.func, value.args, value.keywords]
        case re.Pattern():
            return [value.pattern, value.flags]
        case list() | tuple():
            return value
        case set() | frozenset():
            return sorted(value, key=identity)
        case dict():
            return [*chain.from_iterable(value.items())]
    if _package(type(value).__module__) in ("numpy", "jaxlib") and hasattr(value, "__array__"):
        return [str(value.dtype), value.shape, value.__array__().tobytes()]
    return [type(value), _state(value)]


def _state(value: Any) -> Any:
    """What an instance is, beside its class. Of others' classes that is no field: they hold what they have worked out
    too, as a path its hash."""
    if _package(type(value).__module__) not in OTHERS and (fields := value.__getstate__()) is not None:
        return fields
    if hasattr(value, "__wrapped__"):  # of functools.cache, of jax.jit
        return value.__wrapped__
    return None if type(value).__repr__ is object.__repr__ else _ADDRESS.sub("", repr(value))


def _members(kind: type) -> Sequence[Any]:
    """A class's bases and methods; all that it has where its source is not known."""
    if _package(kind.__module__) in KNOWN:
        return []
    methods = [member for member in vars(kind).values() if isinstance(member, FunctionType)]
    if _file(kind) is not None:  # which holds all but what methods close over
        return [*kind.__bases__, *(one for one in methods if one.__closure__ and _source(one.__code__))]
    named = [member for name, member in vars(kind).items() if not name.startswith("__")]
    return [*kind.__bases__, *methods, *named]


def _code(value: Any) -> Code:
    if isinstance(value, FunctionType):  # what it wraps may have lent it its names
        module, name = value.__globals__.get("__name__", ""), value.__code__.co_qualname
        source = _source(value.__code__)
    else:
        module, name = value.__module__ or "", value.__qualname__
        source = _file(value) if isinstance(value, type) else None
    place = f"{module}.{name}"
    return Code(place, place if _package(module) in KNOWN else f"{name} {source}")


def _package(module: str) -> str:
    return module.partition(".")[0]


def _source(code: CodeType) -> str | None:
    """A digest of the file in which it is written, and of its line there; of its own lines where that is no file, as in
    a notebook; None where Python does not know them."""
    if Path(code.co_filename).is_file():
        return digest([digest_file(Path(code.co_filename)), code.co_firstlineno])
    try:
        return digest(inspect.getsource(code))
    except OSError:
        return None


def _file(kind: type) -> str | None:
    """A digest of the file in which a class is written; None where there is none."""
    try:
        file = inspect.getsourcefile(kind)
    except (OSError, TypeError):
        return None
    return digest_file(Path(file)) if file else None


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that nothing was given yet
        return ()
