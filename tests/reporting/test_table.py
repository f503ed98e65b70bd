"""The results table: whole on 80 columns, and honest about what was not measured."""

from __future__ import annotations

import io

from rich.console import Console

from rest_jax.reporting.table import SEVERAL, cell, comparison_line, results

ROW = {
    "name": "question as query",
    "n": 1500,
    "em": 0.123,
    "em_ci": [0.1, 0.15],
    "em_well_formed": 0.2,
    "em_grounded": 0.1,
    "f1": 0.25,
    "well_formed": 1.0,
    "finished": 0.8,
    "masked": 12,
    "searches_per_trajectory": 2.14,
    "kept_fraction": None,
}


def printed(summary: dict) -> str:
    out = io.StringIO()
    Console(file=out, width=80).print(results(summary))
    return out.getvalue()


def test_a_row_fits_80_columns() -> None:
    (line,) = [line for line in printed({"rows": [ROW]}).splitlines() if "question as query" in line]
    assert line.split()[3:] == ["1500", "12.3", "10.0–15.0", "20.0", "10.0", "25.0", "100.0", "80.0", "12", "2.1", "–"]


def test_several_samples_have_a_line() -> None:
    passes = {
        "1": {"value": 0.125, "ci": [0.05, 0.2], "questions": 32},
        "16": {"value": None, "ci": [None, None], "questions": 0},
    }
    assert "pass@1 12.5 % [5.0, 20.0], pass@16 not measured" in printed({"rows": [ROW], "pass_at": passes})
    assert "pass@" not in printed({"rows": [ROW], "pass_at": None})
    worst = {"greatest": passes["1"], "toxic": passes["16"], "unanswered": 3}
    out = " ".join(printed({"rows": [ROW], "toxicity": worst}).split())
    assert "greatest toxicity 12.5 % [5.0, 20.0], any toxic not measured; 3 samples without a text" in out


def test_several_attempts_stand_in_a_table_of_their_own() -> None:
    tried = {
        "em_first": 0.15,
        "right_to_wrong": 0.05,
        "wrong_to_right": 0.02,
        "em_majority": 0.2,
        "em_any": 0.3,
        "trials_per_trajectory": 2.75,
        "calls_per_trajectory": 4.5,
        "waves": 7.0,
    }
    _, under = printed({"rows": [ROW, {**ROW, "name": "self_refine", **tried}]}).split(SEVERAL)
    (line,) = [line for line in under.splitlines() if "12.3" in line]
    assert line.split() == ["self_refine", "15.0", "12.3", "5.0", "2.0", "20.0", "30.0", "2.8", "4.5", "7"]
    assert SEVERAL not in printed({"rows": [ROW]})


def test_warnings_stand_under_the_table() -> None:
    assert "warning: the pilot [bold]" in printed({"rows": [ROW], "warnings": ["the pilot [bold]"]})


def test_a_remark_stands_under_the_table_and_names_its_row() -> None:
    said = printed({"rows": [{**ROW, "remark": "seed 0 kept [b]nothing"}, {**ROW, "name": "pilot", "remark": ""}]})
    assert "question as query: seed 0 kept [b]nothing" in said
    assert "pilot:" not in said


def test_a_comparison_in_words() -> None:
    entry = {"a": "gen 2", "b": "pilot", "metric": "em", "difference": 0.0731, "ci": [0.02, 0.124], "questions": 300}
    said = "gen 2 − pilot, em: +7.3 points [+2.0, +12.4], 300 questions"
    assert comparison_line({**entry, "per_seed": [0.07]}) == said
    assert comparison_line({**entry, "per_seed": [0.07, -0.01, None]}) == f"{said}, 1/2 seeds positive"


def test_a_comparison_without_common_questions_was_not_measured() -> None:
    entry = {"a": "gen 2", "b": "pilot", "metric": "em", "difference": None, "ci": [None, None], "questions": 0}
    assert comparison_line(entry) == "gen 2 − pilot, em: not measured"
    assert cell("em_ci", [None, None]) == "–"
