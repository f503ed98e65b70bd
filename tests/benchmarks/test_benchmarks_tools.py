"""The benchmark of tools from end to end, small; and what search must find of HotpotQA."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import tools


def test_every_row_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("REST_JAX_DATA", raising=False)
    monkeypatch.setattr(tools, "CALLS", 20)
    monkeypatch.setattr(tools, "BATCH", 40)
    assert tools.main(["--json", str(tmp_path / "out.json"), "--repeats", "1"]) == 0
    told = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [(row["what"], row["calls"]) for row in told["rows"]] == [
        ("single", 20),
        ("client", 20),
        ("batch", 40),
        ("cached", 40),
    ]
    waits = [row["seconds"] for row in told["rows"][:2]]
    assert all(seconds >= tools.WAIT_S for seconds in waits)
    assert told["notes"][-1] == "no rows of bm25: --data names no folder"
    assert "single" in capsys.readouterr().out


def test_a_question_finds_most_of_what_it_is_about(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REST_JAX_CACHE", str(tmp_path))
    rows, about = tools.hotpotqa(data / "hotpotqa")
    assert about["passages"] == 13_043
    assert (about["stemmer"], about["k1"], about["b"], about["title_weight"]) == ("english", 1.5, 0.75, 2)
    assert {row["questions"]: row["n"] for row in rows} == {"dev sample": 400, "train sample": 300}
    assert all(row["gold_in_top"] >= 0.72 for row in rows)
