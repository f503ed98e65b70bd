"""What a tool is: a name, a version, a schema of its arguments, and a coroutine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rest_jax.core.effects import ToolErrorKind, ToolReply

Schema = Mapping[str, Any]
_TYPES: dict[str, type] = {"string": str, "integer": int}


class ToolFailure(Exception):
    """A tool's own way to say that a call failed, and of what kind."""

    def __init__(self, kind: ToolErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Tool:
    """A tool that the adapter serves.

    `parameters` is a JSON schema: an object of string and integer properties, with `required`, `minLength`,
    `maxLength`, `minimum` and `maximum`; `run` gets arguments that satisfy it. It returns what the model may see and
    raises `ToolFailure`; any other exception is the adapter's own failure, not the caller's.
    """

    name: str
    version: str
    """Changes whenever the same arguments may give another answer."""
    description: str
    parameters: Schema
    run: Callable[[Mapping[str, Any]], Awaitable[ToolReply]]
    deterministic: bool = True
    """The same arguments always give the same answer."""
    stateful: bool = False
    """A call changes what later calls answer: it must not be repeated."""

    def described(self) -> dict[str, Any]:
        """The tool in OpenAI's function form, with its version and nature beside it."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {
            "type": "function",
            "function": function,
            "version": self.version,
            "deterministic": self.deterministic,
            "stateful": self.stateful,
        }


def check_arguments(parameters: Schema, arguments: Mapping[str, Any]) -> None:
    """Raise ToolFailure (bad_arguments), naming the argument, unless the arguments satisfy the schema."""
    properties = parameters["properties"]
    for name in parameters["required"]:
        if name not in arguments:
            raise _bad(f"{name} is missing")
    for name, value in arguments.items():
        if name not in properties:
            raise _bad(f"{name} is not an argument; there is {', '.join(properties)}")
        _check_value(name, value, properties[name])


def _check_value(name: str, value: Any, schema: Schema) -> None:
    if not isinstance(value, _TYPES[schema["type"]]) or isinstance(value, bool):
        raise _bad(f"{name} is not of type {schema['type']}")
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        raise _bad(f"{name} is no valid Unicode text")
    unit, size = (" characters", len(value)) if isinstance(value, str) else ("", value)
    least = schema.get("minLength", schema.get("minimum"))
    most = schema.get("maxLength", schema.get("maximum"))
    if least is not None and size < least:
        raise _bad(f"{name} is less than {least}{unit}")
    if most is not None and size > most:
        raise _bad(f"{name} is more than {most}{unit}")


def _bad(message: str) -> ToolFailure:
    return ToolFailure(ToolErrorKind.BAD_ARGUMENTS, message)
