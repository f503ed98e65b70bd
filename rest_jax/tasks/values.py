"""What mathematical answers mean, so that equal ones are known however they are written.

Nothing is rearranged: an expression is worked out where its letters are numbers, and two that agree to 40 digits at
both of `POINTS` are taken to be equal. A text may be only so long and so deep, and each step costs little whatever
stands there, so no answer takes long, and none needs a process of its own or a clock.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Hashable, Iterator
from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow, localcontext
from functools import cache

LONGEST = 1000
"""Characters of a text that is read."""
OPENED = 60
"""Brackets and commands of the same: the deepest that it can be."""

WORKED = Context(prec=60, Emax=99_999, Emin=-99_999, traps=[InvalidOperation, DivisionByZero, Overflow])
KEPT = Context(prec=40, Emax=99_999, Emin=-99_999)
ROUNDED = Decimal("1e-40")
"""What is smaller, and was rounded on its way, is 0."""
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899")

POINTS = (1, -1)
"""Letters are positive numbers at the one and negative ones at the other: a root of them may exist at one alone."""

OPENER = re.compile(r"[(\[{]|\\[A-Za-z]+")
TOKEN = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+|\\[A-Za-z]+|[A-Za-z]|[-+*/^(){}\[\]]")
LETTER = re.compile(r"[A-Za-z]|\\(?:alpha|beta|gamma|delta|theta|lambda|mu|sigma|phi|omega|infty)")
WORD = re.compile(r"(?<![\\A-Za-z])(?!p?matrix|bmatrix)[A-Za-z]{4,}")
"""Fewer letters may be a product."""
MATRIX = re.compile(r"\\begin\{[pb]?matrix\}(.*)\\end\{[pb]?matrix\}")
MIXED = re.compile(r"(?<![0-9.}^_])([0-9]+)(\\frac\{[0-9]+\}\{[0-9]+\})")
"""A number and the fraction right behind it: 1\\frac{4}{5} is 9/5."""
CLOSERS = {"(": ")", "[": "]", "{": "}"}


def meaning(text: str) -> Hashable:
    """What texts that mean the same have in common: a value, several of them in any order, a tuple, an interval, a
    union or a matrix.

    `text` is LaTeX without layout (`expressions.py`). One that is none of these, or too long, means its words.
    """
    if len(text) > LONGEST or len(OPENER.findall(text)) > OPENED or WORD.search(text):
        return text.casefold()
    return _meaning(text)


def _meaning(text: str) -> Hashable:
    if text.startswith("\\{") and text.endswith("\\}"):
        text = text[2:-2]
    if len(united := _parts(text, "\\cup")) > 1:
        return "\\cup", frozenset(map(_meaning, united))
    if len(several := [one for part in _parts(text, ",") for one in _signs(part)]) > 1:
        return frozenset(map(_meaning, several))
    if matrix := MATRIX.fullmatch(text):
        return tuple(tuple(map(_meaning, row.split("&"))) for row in matrix[1].split("\\\\") if row)
    if text[:1] in ("(", "[") and text[-1:] in (")", "]") and len(inside := _parts(text[1:-1], ",")) > 1:
        return text[0], *map(_meaning, inside), text[-1]
    values = tuple(_value(MIXED.sub(r"(\1+\2)", text), point) for point in POINTS)
    return text if values == (None, None) else values


def _parts(text: str, separator: str) -> list[str]:
    """The text between those separators that stand in no brackets; all of it where brackets do not match."""
    parts, depth, begin, at = [], 0, 0, 0
    while at < len(text):
        depth += (text[at] in "([{") - (text[at] in ")]}")
        if depth < 0:
            return [text]
        if depth == 0 and text.startswith(separator, at):
            parts.append(text[begin:at])
            begin = at = at + len(separator)
        else:
            at += 1
    return [text] if depth else [*parts, text[begin:]]


def _signs(text: str) -> list[str]:
    return [text.replace("\\pm", sign) for sign in "+-"] if "\\pm" in text else [text]


def _value(text: str, point: int) -> Decimal | None:
    """What an expression is worth at a point; None where it is nothing there, or the text is no expression."""
    with localcontext(WORKED) as context:
        try:
            value = _Reader(_tokens(text), point).all()
        except (ArithmeticError, _NoExpression):
            return None
    if context.flags[Inexact] and abs(value) < ROUNDED:
        return Decimal(0)
    return value.normalize(KEPT)


def _tokens(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        found = TOKEN.match(text, at)
        if found is None:
            raise _NoExpression
        yield found[0]
        at = found.end() + text.startswith(" ", found.end())


@cache
def _letter(name: str, point: int) -> Decimal:
    """From 10 to 20 at the first point, from -20 to -10 at the other."""
    drawn = int.from_bytes(hashlib.sha256(f"{name} at {point}".encode()).digest()[:8])
    return point * (10 + Decimal(10 * drawn) / 2**64)


class _NoExpression(ValueError):
    pass


class _Reader:
    """Reads tokens once, by recursive descent, and works out what it reads, in the decimal context around it."""

    def __init__(self, tokens: Iterator[str], point: int) -> None:
        self.rest = list(tokens)[::-1]
        self.point = point

    def all(self) -> Decimal:
        value = self.sum()
        if self.rest:
            raise _NoExpression
        return value

    def sees(self) -> str:
        return self.rest[-1] if self.rest else ""

    def takes(self, *tokens: str) -> str:
        """The next token, if it is one of these; else it stays, and this is ""."""
        return self.rest.pop() if self.sees() in tokens else ""

    def sum(self) -> Decimal:
        value = self.product()
        while sign := self.takes("+", "-"):
            value += self.product() if sign == "+" else -self.product()
        return value

    def product(self) -> Decimal:
        value = self.signed()
        while self.sees() not in ("", "+", "-", *CLOSERS.values()):
            if self.takes("/"):
                value /= self.signed()
            elif self.takes("*", "\\cdot", "\\times"):
                value *= self.signed()
            elif self.sees()[0] in ".0123456789":
                raise _NoExpression  # `x2` and `2 3` are no products
            else:
                value *= self.power()
        return value

    def signed(self) -> Decimal:
        negative = False
        while sign := self.takes("+", "-"):
            negative ^= sign == "-"
        return -self.power() if negative else self.power()

    def power(self) -> Decimal:
        value = self.atom()
        return value ** self.atom() if self.takes("^") else value

    def atom(self) -> Decimal:
        token = self.rest.pop() if self.rest else ""
        if token[:1].isdigit() or token[:1] == ".":
            return Decimal(token)
        if LETTER.fullmatch(token):
            return _letter(token, self.point)
        match token:
            case "(" | "[" | "{":
                return self.closed(CLOSERS[token])
            case "\\frac":
                return self.atom() / self.atom()
            case "\\sqrt":
                degree = self.closed("]") if self.takes("[") else Decimal(2)
                return self.atom() ** (1 / degree)
            case "\\pi":
                return PI
        raise _NoExpression

    def closed(self, bracket: str) -> Decimal:
        value = self.sum()
        if not self.takes(bracket):
            raise _NoExpression
        return value
