"""Numbers read from answers, on hard strings and on every gold answer of GSM8K."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest

from rest_jax.core.answers import Vote, majority
from rest_jax.core.trajectory import Question
from rest_jax.tasks.gsm8k import parse
from rest_jax.tasks.metrics import Score
from rest_jax.tasks.numbers import boxed, number, number_metric, number_voice

WITH_COMMAS = {
    "1,450,000": 1450000,
    "1,600": 1600,
    "1,875": 1875,
    "10,800": 10800,
    "114,200": 114200,
    "14,000": 14000,
    "2,125": 2125,
    "276,000": 276000,
    "40,000": 40000,
    "43,500": 43500,
    "5,600": 5600,
    "6,250": 6250,
    "6,600": 6600,
    "65,960": 65960,
}
"""GSM8K's 14 test answers with a comma, as published: read up to the comma, or as a text, each is lost."""

READ = [
    ("18", 18),
    ("18.", 18),
    ("18.00", 18),
    ("$18", 18),
    ("\\$18", 18),
    ("$2,125.00 a year", 2125),
    ("-3", -3),
    ("−3", -3),
    ("-$3", -3),
    ("$-3", -3),
    (".5", Fraction(1, 2)),
    ("0.1", Fraction(1, 10)),
    ("50%", 50),
    ("50 %", 50),
    ("50\\%", 50),
    ("3/4", Fraction(3, 4)),
    ("3/0", None),
    ("18 eggs", 18),
    ("16 - 3 - 4 = 9", 9),
    ("16-3-4=9", 9),
    ("9 * 2 = $18", 18),
    ("pages 10-12", 12),
    ("He pays 1,2345", 2345),
    ("3, 4", 4),
    ("So 3.\n#### 1,600", 1600),
    ("#### 5\n#### 6 of 7", 6),
    ("It is \\boxed{18\\text{ dollars}} for 2 days.", 18),
    ("\\boxed{2{,}125}", 2125),
    ("10,\\!080", 10080),
    ("First 3. The answer is $18 for 2 days.", 18),
    ("The answer is: 18.", 18),
    ("two", None),
    ("", None),
    ("9" * 41, None),
    ("9" * 100_000, None),
    ("1/" + "9" * 100_000, None),
]


@pytest.mark.parametrize(("text", "expected"), READ)
def test_the_number_of_an_answer(text: str, expected: Fraction | None) -> None:
    assert number(text) == expected


def test_all_gold_answers_of_gsm8ks_test_set_are_read_exactly(data: Path) -> None:
    rows = list(parse(data / "gsm8k" / "test.jsonl"))
    assert len(rows) == 1319
    assert {row["answer"] for row in rows if "," in row["answer"]} == set(WITH_COMMAS)
    read = [number(row["answer"]) for row in rows]
    # By another way: int() of what stands after ####, its commas taken out.
    lines = (data / "gsm8k" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    published = [json.loads(line)["answer"].split("#### ")[1] for line in lines]
    assert read == [int(text.replace(",", "")) for text in published]
    assert [number(json.loads(line)["answer"]) for line in lines] == read, "in the whole solution too"


@pytest.mark.parametrize(("text", "value"), WITH_COMMAS.items())
def test_an_answer_with_commas_is_right_with_them_and_without(text: str, value: int) -> None:
    gold = Question("q", "?", text)
    right = Score(1.0, 1.0)
    assert [number_metric(said, gold) for said in (text, str(value), f"${text}.00", f"{value}.0")] == [right] * 4
    assert [number_metric(said, gold).em for said in (text.split(",")[0], f"{value}0", "", None)] == [0.0] * 4


def test_a_text_that_holds_no_number_equals_no_gold_answer() -> None:
    assert number_metric("many", Question("q", "?", "many")) == Score(0.0, 0.0)


def test_a_vote_counts_equal_numbers_and_keeps_apart_what_words_would_merge() -> None:
    said = ["25", "2.5", "$2.50", None, "2.5 dollars", "25"]
    assert majority(said, number_voice) == Vote(1, 3)
    assert majority(said) == Vote(0, 3), "25, 2.5 and 25: without its point 2.5 is 25"
    assert majority(["unknown", "Unknown.", "3"], number_voice) == Vote(0, 2)


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("\\boxed{5}", "5"),
        ("\\boxed{\\frac{1}{2}} and \\boxed{\\frac{3}{4}}.", "\\frac{3}{4}"),
        ("\\boxed{}", ""),
        ("\\boxed{5", None),
        ("5", None),
        ("\\boxed{{{", None),
    ],
)
def test_what_is_boxed(text: str, inside: str | None) -> None:
    assert boxed(text) == inside
