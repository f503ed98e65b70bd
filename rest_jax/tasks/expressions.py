"""Mathematical answers in LaTeX: equal when they are written alike, layout and units aside, or mean the same."""

from __future__ import annotations

import re
from collections.abc import Hashable

from rest_jax.core.trajectory import Question
from rest_jax.tasks.metrics import Score
from rest_jax.tasks.numbers import SPACED, boxed
from rest_jax.tasks.values import LONGEST, meaning

LAYOUT = re.compile(r"\\left(?![a-z])|\\right(?![a-z])|\\displaystyle|(?<!\\)\\[,;:! ]|\^\{?\\circ\}?|\\?%|\\?\$|~")
SPACE = re.compile(r"(\\[A-Za-z]+ )(?=[A-Za-z])| ")
"""A space counts between a command and a letter alone: `\\pi r`."""
UNIT = re.compile(r"(?<=[^\s{(,])\s*\\(?:text|mbox|mathrm)\{[^{}]*\}(?:\^\{?[0-9]\}?)?\s*\.?$")
"""What stands after a quantity, and nothing after it."""
AND = re.compile(r",?\s*(?:\\(?:text|mbox)\{)?\s(?:and|or)\s\}?")
WORDS = re.compile(r"\\(?:text|mbox|mathrm|textbf)\{([^{}]*)\}")
FRACTION = re.compile(r"\\[cdt]frac(?![a-z])")
FORMULA = re.compile(r"\$([^$]+)\$")
SHORT = re.compile(r"(\\frac|\\sqrt)([0-9a-z])")
"""`\\frac12` and `\\sqrt3`: an argument of one character needs no braces."""
SHORT_UNDER = re.compile(r"(\\frac\{[^{}]*\})([0-9a-z])")
BASE = re.compile(r"_\{([^{}]*)\}")
SLASHED = re.compile(r"([0-9]+)/([0-9]+)")
NAMED = re.compile(r"(?:^|(?<=,))[A-Za-z](?:=|\\in(?![a-z]))")
"""`x=5`, `x \\in [-2,7]`, `x=1,x=2`."""
CHOICE = re.compile(r"\(([A-Z])\)")
THOUSANDS = re.compile(r"-?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?")
NUMBER = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+|[0-9]*\\frac\{-?[0-9]+\}\{[0-9]+\})")


def expression_metric(answer: str | None, question: Question) -> Score:
    """1 where the answer, or what its last `\\boxed{…}` holds, equals a gold answer, else 0: EM and F1.

    A question in which what gold means already stands asks for a form, as "Factor $x^2 - 1$" does: there an answer has
    to be written like gold.
    """
    right = float(answer is not None and any(_is_right(answer, gold, question.text) for gold in question.golds))
    return Score(right, right)


def equal(answer: str, gold: str) -> bool:
    """Whether an answer is written like the gold one or means the same.

    Where gold is a number, a decimal or a fraction, the answer has to be one: `2^{10}` is not yet 1024.
    """
    said, wanted = _plain(answer), _plain(gold)
    if NUMBER.fullmatch(wanted) and not NUMBER.fullmatch(said):
        return False
    return said == wanted or meaning(said) == meaning(wanted)


def asks_for_form(question: str, gold: str) -> bool:
    """Whether what gold means stands in the question, between dollar signs, written otherwise."""
    wanted = _plain(gold)
    if NUMBER.fullmatch(wanted):
        return False
    shown = [_plain(text) for text in FORMULA.findall(question)]
    return any(text != wanted and meaning(text) == meaning(wanted) for text in shown)


def expression_voice(answer: str) -> Hashable:
    """What answers that mean the same have in common."""
    return meaning(_plain(answer))


def _is_right(answer: str, gold: str, question: str) -> bool:
    return equal(answer, gold) and (_plain(answer) == _plain(gold) or not asks_for_form(question, gold))


def _plain(answer: str) -> str:
    """How an answer is written, without layout, units and a name before it; one that is too long, as it stands."""
    inside = boxed(answer)
    text = " ".join((answer if inside is None else inside).strip().strip("$").split())
    if len(text) > LONGEST:
        return text
    text = AND.sub(",", FRACTION.sub(r"\\frac", SPACED.sub("", text)))
    text = WORDS.sub(r"\1", UNIT.sub("", text))
    text = SPACE.sub(r"\1", " ".join(LAYOUT.sub(" ", text).split())).rstrip(".")
    text = SHORT_UNDER.sub(r"\1{\2}", SHORT.sub(r"\1{\2}", text))
    text = BASE.sub(r"_\1", SLASHED.sub(r"\\frac{\1}{\2}", text))
    text = NAMED.sub("", text)
    if choice := CHOICE.fullmatch(text):
        return choice[1]
    return text.replace(",", "") if THOUSANDS.fullmatch(text) else text
