"""Numbers in answers: read exactly, whatever commas, signs and words stand around them."""

from __future__ import annotations

import re
from collections.abc import Hashable
from fractions import Fraction

from rest_jax.core.answers import normalise
from rest_jax.core.trajectory import Question
from rest_jax.tasks.metrics import Score

DIGITS = 40
"""A longer number is nobody's answer, and is not read."""

NUMBER = re.compile(
    r"(?P<minus>(?<![\w.)\]])[-−])?\$?(?P<minus_after>(?<=\$)[-−])?"
    r"(?P<value>(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
    r"(?:\s?/\s?(?P<over>[0-9]+))?"
)
"""A comma counts only between groups of three digits, a hyphen only where it is no dash between two words."""
SPACED = re.compile(r"\{,\}|,\\!|(?<=[0-9])\\[,!](?=[0-9]{3})")
"""How LaTeX separates thousands."""
SAID = re.compile(r"answer is:?", re.IGNORECASE)
BOX = "\\boxed{"


def number(text: str) -> Fraction | None:
    """The number that a text gives as its answer; None where it gives none.

    It is the first one after the last `####`, in the last `\\boxed{…}` or after the last "answer is"; a text that
    marks none of these gives its last number. `$`, a percent sign and words around it do not count, and neither do
    commas between thousands: "$2,125.00 a year" is 2125. `3/4` is one number.
    """
    text = text.replace("\\$", "$")
    _, marked, after = text.rpartition("####")
    if not marked and (inside := boxed(text)) is not None:
        marked, after = BOX, inside
    if not marked and (told := list(SAID.finditer(text))):
        marked, after = "said", text[told[-1].end() :]
    found = list(NUMBER.finditer(SPACED.sub(",", after if marked else text)))
    return _value(found[0 if marked else -1]) if found else None


def boxed(text: str) -> str | None:
    """What stands in the last `\\boxed{…}` of a text; None where there is none, or it is never closed."""
    _, opened, rest = text.rpartition(BOX)
    depth = 1
    for at, character in enumerate(rest if opened else ""):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return rest[:at]
    return None


def number_metric(answer: str | None, question: Question) -> Score:
    """1 where the answer's number equals a gold one's, else 0, as EM and as F1."""
    said = None if answer is None else number(answer)
    right = float(said is not None and any(said == number(gold) for gold in question.golds))
    return Score(right, right)


def number_voice(answer: str) -> Hashable:
    """What two answers have in common that say the same number; of an answer without one, its words."""
    said = number(answer)
    return normalise(answer) if said is None else said


def _value(found: re.Match[str]) -> Fraction | None:
    digits, over = found["value"].replace(",", ""), found["over"] or "1"
    if len(digits) > DIGITS or len(over) > DIGITS or int(over) == 0:
        return None
    value = Fraction(digits) / int(over)
    return -value if found["minus"] or found["minus_after"] else value
