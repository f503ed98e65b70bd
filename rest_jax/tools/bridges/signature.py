"""A function's signature and docstring as the JSON schema of its arguments."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}

_ARGUMENTS = re.compile(r"^(args|arguments|parameters):\s*$(.*?)(?=^\S|\Z)", re.IGNORECASE | re.MULTILINE | re.DOTALL)
_ARGUMENT = re.compile(r"^( +)(\w+)\s*(?:\([^)]*\))?:\s*(.+?)(?=^\1\S|\Z)", re.MULTILINE | re.DOTALL)


class NoSchemaError(ValueError):
    """A signature that no JSON schema describes; the message names the parameter and what would do."""


def schema_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a function's arguments; a parameter without a default is required.

    Annotations: str, int, float, bool, list, list[T], dict, dict[str, T], Literal, T | None and other unions, Any.
    A parameter is described by `Annotated[T, "words"]`, or by its line under `Args:` in the docstring.
    Raises NoSchemaError.
    """
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise NoSchemaError(f"its annotations cannot be read ({error})") from error
    described = _described(inspect.getdoc(function) or "")
    properties, required = {}, []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise NoSchemaError(f"its parameter {name!r} has no name to call it by; give it one without * or /")
        if name not in hints:
            raise NoSchemaError(f"its parameter {name!r} has no annotation; write {name}: str, or what it is")
        words = {"description": described[name]} if name in described else {}
        properties[name] = words | _schema(hints[name], name) | _default(parameter)
        if parameter.default is parameter.empty:
            required.append(name)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def summary_of(function: Callable[..., Any]) -> str:
    """What the docstring says before its arguments."""
    return _ARGUMENTS.split(inspect.getdoc(function) or "")[0].strip()


def _described(docstring: str) -> dict[str, str]:
    found = _ARGUMENTS.search(docstring)
    return {} if found is None else {name: " ".join(words.split()) for _, name, words in _ARGUMENT.findall(found[2])}


def _default(parameter: inspect.Parameter) -> dict[str, Any]:
    """The default, where JSON can say it."""
    if parameter.default is parameter.empty:
        return {}
    try:
        return {"default": json.loads(json.dumps(parameter.default, allow_nan=False))}
    except (TypeError, ValueError):
        return {}


def _schema(kind: Any, name: str) -> dict[str, Any]:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        words = [word for word in kind.__metadata__ if isinstance(word, str)]
        return _schema(kind.__origin__, name) | ({"description": words[0]} if words else {})
    if origin in (Union, UnionType):
        return {"anyOf": [_schema(option, name) for option in parts]}
    if origin is Literal and all(type(part) in SCALARS for part in parts):
        return {"enum": list(parts)}
    if kind is Any:
        return {}
    if kind in SCALARS:
        return {"type": SCALARS[kind]}
    if kind is list or origin is list:
        return {"type": "array", **({"items": _schema(parts[0], name)} if parts else {})}
    if kind is dict or (origin is dict and parts[0] is str):
        return {"type": "object", **({"additionalProperties": _schema(parts[1], name)} if parts else {})}
    raise NoSchemaError(
        f"its parameter {name!r} is annotated {kind!r}; JSON has str, int, float, bool, list, dict with str keys, "
        "Literal and None"
    )
