"""JSON Schema of a configuration, so that editors complete and explain its keys."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from rest_jax.config.limits import annotated_kinds
from rest_jax.config.plain import as_plain
from rest_jax.config.presets import presets
from rest_jax.config.source import EXTENDS, PRESET

SCALARS = {bool: "boolean", int: "integer", float: "number", str: "string"}


def json_schema(kind: type) -> dict[str, Any]:
    """JSON Schema (2020-12) of a settings dataclass: types, limits, defaults, and the sentence under each field.

    No key is required, because a file may inherit it by `extends`.
    """
    definitions: dict[str, Any] = {}
    top = _object(kind, definitions)
    preset = {"enum": presets(), "description": "A paper's rules, which the settings of this file change."}
    extends = {"type": "string", "description": "A file, relative to this one, whose settings this one changes."}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind.__name__,
        **top,
        "properties": {EXTENDS: extends, PRESET: preset, **top["properties"]},
        "$defs": definitions,
    }


def field_docs(kind: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, as one line; fields without one are left out."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    docs = {}
    for statement, following in zip(definition.body, definition.body[1:], strict=False):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                docs[name] = " ".join(text.split())
    return docs


def _object(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    docs, kinds = field_docs(kind), annotated_kinds(kind)
    properties = {}
    for field in dataclasses.fields(kind):
        described = {"description": docs[field.name]} if field.name in docs else {}
        properties[field.name] = _schema(kinds[field.name], definitions) | described | _default(field)
    return {
        "type": "object",
        "description": inspect.getdoc(kind),
        "properties": properties,
        "additionalProperties": False,
    }


def _default(field: dataclasses.Field[Any]) -> dict[str, Any]:
    if field.default is not dataclasses.MISSING:
        return {"default": as_plain(field.default)}
    if field.default_factory is not dataclasses.MISSING:
        return {"default": as_plain(field.default_factory())}
    return {}


def _schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = _object(kind, definitions)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    if get_origin(kind) is Annotated:
        limits = {limit.keyword: limit.value for limit in kind.__metadata__}
        return _schema(kind.__origin__, definitions) | limits
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return {"anyOf": [_schema(option, definitions) for option in arguments]}
    if origin is tuple:
        return {"type": "array", "items": _schema(arguments[0], definitions)}
    if origin is Literal:
        return {"enum": list(arguments)}
    return {"type": "null"} if kind is NoneType else {"type": SCALARS[kind]}
