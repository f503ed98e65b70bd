"""YAML nodes to values: the setting's declared type decides what a scalar means, never YAML's own guess."""

from __future__ import annotations

import dataclasses
import math
import re
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from rest_jax.config.source import STANDARD_TAG, Misfit, did_you_mean

WHOLE_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*(_[0-9]+)*)")
NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
BOOLEAN_LOOKALIKES = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


def value_of(node: Node, kind: Any, path: str) -> Any:
    """The value of type `kind` that a node writes down; `path` is its dotted name, for messages.

    Kinds: frozen dataclasses, `tuple[T, ...]`, `Literal` of strings, `T | None`, bool, int, float, str.
    A whole number is taken where a float is wanted, and `1e-5` is one. Unquoted `no` or `off` is text for a str and
    refused for a bool. Raises `Misfit`.
    """
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _dataclass_of(node, kind, path)
    if get_origin(kind) in (Union, UnionType):
        return None if _is_null(node) else value_of(node, _without_none(kind), path)
    if get_origin(kind) is tuple:
        return _tuple_of(node, get_args(kind)[0], path)
    if not isinstance(node, ScalarNode):
        raise Misfit(node, f"{path}: expected {_wanted(kind)}, got {_got(node)}")
    if get_origin(kind) is Literal:
        return _literal_of(node, get_args(kind), path)
    return _scalar_of(node, kind, path)


@cache
def field_kinds(kind: type) -> dict[str, Any]:
    """The resolved annotation of every field of a dataclass, in order."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _dataclass_of(node: Node, kind: type, path: str) -> Any:
    if not isinstance(node, MappingNode):
        raise Misfit(node, f"{path or 'the file'}: expected settings as `key: value`, got {_got(node)}")
    kinds = field_kinds(kind)
    values = {}
    for key, value in node.value:
        if key.value not in kinds:
            inside = f" in {path}" if path else ""
            raise Misfit(key, f"unknown key '{key.value}'{inside}; {did_you_mean(key.value, kinds)}")
        values[key.value] = value_of(value, kinds[key.value], f"{path}.{key.value}" if path else key.value)
    for field in dataclasses.fields(kind):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and field.name not in values:
            raise Misfit(node, f"{path or 'the file'}: key '{field.name}' is missing; add it")
    return kind(**values)


def _tuple_of(node: Node, item: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(node, SequenceNode):
        mend = f"; write [{node.value}]" if isinstance(node, ScalarNode) and not _is_null(node) else ""
        raise Misfit(node, f"{path}: expected a list, got {_got(node)}{mend}")
    return tuple(value_of(entry, item, f"{path}.{index}") for index, entry in enumerate(node.value))


def _literal_of(node: ScalarNode, options: tuple[str, ...], path: str) -> str:
    if node.value in options:
        return node.value
    raise Misfit(node, f"{path}: expected one of {', '.join(options)}, got {_got(node)}")


def _scalar_of(node: ScalarNode, kind: type, path: str) -> Any:
    text, plain = node.value, node.style is None
    if kind is str and not _is_null(node):
        return text
    if kind is bool and plain and text in ("true", "false"):
        return text == "true"
    if kind is int and plain and WHOLE_NUMBER.fullmatch(text):
        return int(text)
    if kind is float and plain and NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    raise Misfit(node, f"{path}: expected {_wanted(kind)}, got {_got(node)}{_mend(node, kind)}")


def _wanted(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    return {
        str: "text",
        bool: "true or false",
        int: "a whole number (such as 8)",
        float: "a finite number (such as 0.5 or 1e-5)",
    }[kind]


def _got(node: Node) -> str:
    if isinstance(node, MappingNode):
        return "a mapping"
    if isinstance(node, SequenceNode):
        return "a list"
    if _is_null(node):
        return "nothing (null)"
    quoted = isinstance(node, ScalarNode) and node.style is not None
    return f"the quoted text '{node.value}'" if quoted else f"'{node.value}'"


def _mend(node: ScalarNode, kind: type) -> str:
    if kind is str:
        return "; write '' for empty text"
    if kind is bool and node.value.lower() in (*BOOLEAN_LOOKALIKES, "true", "false"):
        return f"; write {BOOLEAN_LOOKALIKES.get(node.value.lower(), node.value.lower())} without quotes"
    if node.style is not None and kind in (int, float) and NUMBER.fullmatch(node.value):
        return "; remove the quotes"
    return ""


def _is_null(node: Node) -> bool:
    return node.tag == STANDARD_TAG + "null"


def _without_none(kind: Any) -> Any:
    (inner,) = [option for option in get_args(kind) if option is not NoneType]
    return inner
