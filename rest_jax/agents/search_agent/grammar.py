"""Code as prompt: dataclasses written as Python expressions, and read back. Nothing is ever evaluated.

The grammar is that of the dataclasses: calls by their names with keyword arguments, and in them strings, integers, True
and False, lists, and such calls again. What a model wrote is hostile text, so a lexer goes before Python's parser: it
takes no token of any other kind, no string that goes over a line, no number of more than nine digits and no brackets
deeper than `DEEPEST`, in one pass. What is left is too plain and too flat to hurt the parser.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from rest_jax.agents.endings import Malformed
from rest_jax.agents.search_agent.values import ResultItem, Words
from rest_jax.core.text import valid_unicode
from rest_jax.core.transcript import Source

LONGEST = 100_000
"""Characters; longer text is not read."""
DEEPEST = 6

Piece = tuple[Source, str]

_ESCAPE = r"\\(?:[\\'\"abfnrtv]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4})"
_TOKEN = re.compile(
    rf"""(?P<blank>[ \t\r\n]+|\#[^\n]*)
    |(?P<token>'(?:[^'\\\r\n]|{_ESCAPE})*'|"(?:[^"\\\r\n]|{_ESCAPE})*"|\d{{1,9}}(?!\w)|[A-Za-z_]\w*|[()\[\],=:])""",
    re.VERBOSE | re.ASCII,
)


class _Refused(Exception):
    """The text is not of the grammar."""


def literal(text: str) -> str:
    """The text as a Python string literal in single quotes, on one line and without a `#`: whatever it holds, it
    neither closes the quote, nor begins a comment, nor says what ends a reply."""
    # The double quote makes `repr` take single quotes for all texts.
    return "'" + repr('"' + text)[2:].replace("#", r"\x23")


def unquoted(text: str) -> str:
    """What a text says that is a string literal as `literal` writes it; any other text says itself."""
    value = read(text, str) if text.startswith("'") else None
    return value if isinstance(value, str) and literal(value) == text else text


def write(value: Any, author: Source = Source.QUOTE) -> Iterator[Piece]:
    """A value as an expression, in pieces: strings are their author's, and a `ResultItem`'s are the tool's; the code
    around them is trusted. A field that is None is left out."""
    if isinstance(value, str):
        yield author, literal(value)
    elif isinstance(value, tuple):
        yield Source.PROMPT, "["
        for place, part in enumerate(value):
            yield Source.PROMPT, ", " if place else ""
            yield from write(part, author)
        yield Source.PROMPT, "]"
    elif is_dataclass(value):
        author = Source.TOOL if isinstance(value, ResultItem) else author
        said = [(field.name, part) for field in fields(value) if (part := getattr(value, field.name)) is not None]
        yield Source.PROMPT, f"{type(value).__name__}("
        for place, (name, part) in enumerate(said):
            yield Source.PROMPT, f"{', ' if place else ''}{name}="
            yield from write(part, author)
        yield Source.PROMPT, ")"
    else:
        yield Source.PROMPT, repr(value)


def code(value: Any) -> str:
    """A value as an expression."""
    return "".join(text for _, text in write(value))


def read(text: str, kind: Any, target: str | None = None) -> Any:
    """The value of type `kind`, a dataclass or a union of some, that the text writes; else a `Malformed` that says why.

    With a target the text is an assignment to that name, with or without an annotation. Comments do not matter.
    """
    if len(text) > LONGEST:
        return Malformed(f"more than {LONGEST} characters")
    try:
        tokens = _tokens(text)
        if target is not None:
            tokens = _assigned(tokens, target)
        return _value(ast.parse(" ".join(tokens), mode="eval").body, kind)
    except _Refused as refused:
        return Malformed(str(refused))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Malformed("not a Python expression")


def _tokens(text: str) -> list[str]:
    """The text's tokens, in one pass."""
    tokens, at, depth = [], 0, 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise _Refused(f"{text[at : at + 20]!r} begins with no token of the grammar")
        if token := found["token"]:
            tokens.append(token)
            depth += (token in "([") - (token in ")]")
            if depth > DEEPEST:
                raise _Refused(f"brackets are deeper than {DEEPEST}")
        at = found.end()
    return tokens


def _assigned(tokens: list[str], target: str) -> list[str]:
    """What is assigned to the target."""
    if tokens[:1] != [target] or "=" not in tokens:
        raise _Refused(f"no assignment to {target}")
    equals = tokens.index("=")
    if tokens[1] not in ("=", ":"):
        raise _Refused(f"no assignment to {target}")
    return tokens[equals + 1 :]


def _value(node: ast.expr, kind: Any) -> Any:
    """The value of a node where `kind` is expected."""
    options = _options(kind)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        for option in options:
            if is_dataclass(option) and _name(option) == node.func.id:
                return _instance(node, option)
    for option in options:
        if get_origin(option) is tuple and isinstance(node, ast.List):
            return tuple(_value(element, get_args(option)[0]) for element in node.elts)
        said = get_origin(option) is Annotated
        if isinstance(node, ast.Constant) and type(node.value) is (str if said else option):
            return _text(node.value, said=said) if isinstance(node.value, str) else node.value
    raise _Refused(f"expected {' or '.join(map(_name, options))}, got {_shown(node)}")


def _text(text: str, *, said: bool) -> str:
    """A string as it may stand anywhere; `said`: it has to say something."""
    if valid_unicode(text) != text:
        raise _Refused("a string is no valid Unicode")
    if said and not text.strip():
        raise _Refused("a string that has to say something is blank")
    return text


def _instance(node: ast.Call, kind: Any) -> Any:
    """The dataclass that a call writes: keywords alone, each once, none unknown, none missing."""
    kinds, given = _kinds(kind), {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg is not None}
    if node.args or len(given) < len(node.keywords):
        raise _Refused(f"{kind.__name__}: arguments are given once each, by keyword")
    if unknown := sorted(given.keys() - kinds.keys()):
        raise _Refused(f"{kind.__name__}: unknown argument {unknown[0][:40]}")
    needed = [field.name for field in fields(kind) if field.default is MISSING]
    if missing := [name for name in needed if name not in given]:
        raise _Refused(f"{kind.__name__}: no argument {missing[0]}")
    return kind(**{name: _value(part, kinds[name]) for name, part in given.items()})


@lru_cache(64)
def _kinds(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _options(kind: Any) -> list[Any]:
    union = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    return [option for option in union if option is not NoneType]


def _name(kind: Any) -> str:
    if get_origin(kind) is tuple:
        return "a list"
    return {str: "a string", Words: "a string", int: "an integer", bool: "True or False"}.get(kind) or kind.__name__


def _shown(node: ast.expr) -> str:
    """What stands in the text, in a few characters."""
    match node:
        case ast.Call(func=ast.Name(id)):
            return f"{id[:40]}(…)"
        case ast.Constant(value):
            return _name(type(value)) if isinstance(value, str | int) else str(value)
        case ast.Name(id):
            return id[:40]
    return type(node).__name__
