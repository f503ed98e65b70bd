"""`rest-jax judge`: answers that are there already, compared with the gold ones by a judge behind an endpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from rest_jax.cli.main import main
from rest_jax.core.errors import UserError
from rest_jax.recipes.auto_eval import read_given, rows_of
from tests.policies.completions_server import Served, serving

LABELS = """\
{"question": "Where?", "answer": "In Oslo.", "reference": "Oslo", "label": true}
{"question": "Where?", "answer": "In Rome.", "reference": "Oslo", "label": false}
"""
CONFIG = """\
model: {{name: {model}}}
policies: {{judge: {{url: "{url}", model: teacher, concurrency: 1}}}}
judge: {{answers: {{gate: {{labels: {labels}, pairs: 2}}, repetitions: 2, tokens: 64}}}}
"""
ASKED = {
    "a": {"question": "Where?", "golds": ["Oslo"]},
    "b": {"question": "Who?", "golds": ["Ada", "A. Orr"]},
    "c": {"question": "Whose?", "golds": ["Orr"]},
}


@pytest.fixture(scope="module")
def served(tiny_model: Path) -> Iterator[Served]:
    with serving(tiny_model) as one:
        yield one


def verdicts(*same: bool) -> list[str]:
    return [f"# Compared.\nCheck_Answer(ORIGINAL_QUESTION, ANSWER, REF_ANSWER) = {one} # [END]" for one in same]


def record(question: str, sample: int, answer: str | None, *, em: float = 0.0, masked: bool = False) -> dict:
    status = "tool_failure" if masked else "finished" if answer else "step_limit"
    told = {"question_id": question, "sample": sample, "seed": 0, "status": status, "answer": answer, "em": em}
    return {**told, "masked": masked}


def evaluation(path: Path, *records: dict) -> Path:
    path.write_text(json.dumps({"name": "model", "records": records, "questions": ASKED}))
    return path


@pytest.fixture
def config(tmp_path: Path, tiny_model: Path, served: Served) -> Path:
    (tmp_path / "labels.jsonl").write_text(LABELS)
    path = tmp_path / "judge.yaml"
    path.write_text(CONFIG.format(model=tiny_model, url=served.url, labels=tmp_path / "labels.jsonl"))
    return path


@pytest.fixture
def once(tmp_path: Path) -> Path:
    """Two questions, two rollouts: of the second one no answer to b; and what does not count."""
    return evaluation(
        tmp_path / "once.json",
        record("a", 0, "It lies in Oslo."),
        record("b", 0, "Nobody."),
        record("a", 1, "Oslo", em=1.0),
        record("b", 1, None),
        record("b", 2, None, masked=True),
    )


def test_mean_and_spread_are_over_rollouts_and_verdicts_and_nothing_is_asked_twice(
    config: Path, once: Path, tmp_path: Path, served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shares of yes: 1/2, 1/2 of the first rollout, 1/2, 0/2 of the second."""
    served.plan(says=verdicts(True, False, *(True, True), *(False, False), *(True, False)))
    before, out = len(served.asked()), tmp_path / "out.json"
    command = ["judge", str(once), "--config", str(config), "--json", str(out)]
    assert main(command) == 0
    assert len(served.asked()) == before + 2 + 6
    (row,) = json.loads(out.read_text())["rows"]
    assert (row["name"], row["n"], row["em"], row["repetitions"], row["unread"]) == ("model", 4, 0.25, 4, 0)
    assert (row["mean"], row["std"]) == (0.375, 0.25)
    assert row["judge"] == "0.38 ± 0.25 (gate lowered to 2 pairs, 0.85)"
    assert row["judge"] in " ".join(capsys.readouterr().out.split())
    asked = served.asked()[-1]["prompt"]
    assert "ANSWER: str = 'Oslo'" in asked
    assert main(command) == 0
    assert len(served.asked()) == before + 2 + 6


def test_the_winners_of_a_vote_are_one_rollout_whichever_sample_each_was(
    config: Path, tmp_path: Path, served: Served
) -> None:
    """Two of three answers are right: by the winners' places the mean would be that of 0 and 1."""
    chosen = evaluation(
        tmp_path / "vote.json", record("a", 0, "Rome"), record("b", 7, "Ada", em=1.0), record("c", 7, "Orr", em=1.0)
    )
    served.plan(says=verdicts(True, False, *(False,) * 2, *(True,) * 4))
    out = tmp_path / "out.json"
    assert main(["judge", str(chosen), "--config", str(config), "--json", str(out)]) == 0
    (row,) = json.loads(out.read_text())["rows"]
    assert (row["mean"], row["std"], row["repetitions"]) == (pytest.approx(2 / 3), 0, 2)


def test_rows_agree_with_what_people_say_of_them(
    config: Path, once: Path, tmp_path: Path, served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = evaluation(tmp_path / "twice.json", record("a", 0, "Oslo", em=1.0))
    thrice = evaluation(tmp_path / "thrice.json", record("a", 0, "Rome"))
    labels = tmp_path / "people.jsonl"
    given = {"once: model": 40, "twice: model": 95, "thrice: model": 45}
    labels.write_text("".join(json.dumps({"row": row, "label": label}) + "\n" for row, label in given.items()))
    # Shares: 3/4 of once, 1 of twice, 0 of thrice.
    served.plan(says=verdicts(True, False, *(True,) * 6, *(True, True), *(False, False)))
    out = tmp_path / "out.json"
    paths = [str(path) for path in (once, twice, thrice)]
    assert main(["judge", *paths, "--config", str(config), "--labels", str(labels), "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert [row["mean"] for row in found["rows"]] == [0.75, 1.0, 0.0]
    assert found["agreement"]["n"] == 3
    assert found["agreement"]["spearman"] == pytest.approx(0.5)
    assert found["agreement"]["pearson"] == pytest.approx(0.632, abs=0.001)
    assert "with 3 labels: Pearson" in capsys.readouterr().out


def test_a_judge_that_does_not_qualify_says_nothing_of_any_row(
    config: Path, once: Path, tmp_path: Path, served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    served.plan(says=verdicts(True, True))
    before, out = len(served.asked()), tmp_path / "out.json"
    assert main(["judge", str(once), "--config", str(config), "--json", str(out)]) == 0
    assert len(served.asked()) == before + 2
    found = json.loads(out.read_text())
    assert (found["gate"]["qualified"], found["agreement"]) == (False, None)
    assert (found["rows"][0]["judge"], found["rows"][0]["mean"]) == ("not qualified (0.50)", None)
    assert "not qualified (0.50)" in capsys.readouterr().out


def test_the_answers_of_a_finished_run_with_their_gold_ones(finished_run: Path) -> None:
    rows = dict(rows_of([finished_run]))
    assert list(rows) == ["prompted", "pilot", "gen 1"]
    assert {len(answers) for answers in rows.values()} == {4}
    assert all(one.question and one.golds[0] for answers in rows.values() for one in answers)


def test_targets_are_told_apart_by_name(once: Path, finished_run: Path, tmp_path: Path) -> None:
    """What stands after a dot is part of a folder's name."""
    runs = [tmp_path / name for name in ("tiny_v1.2", "tiny_v1.3")]
    for run in runs:
        run.symlink_to(finished_run)
    again = evaluation(tmp_path / "again.json", record("a", 0, "Oslo"))
    assert [name for name, _ in rows_of([again, *runs])] == [
        "again: model",
        *(f"{run.name}: {row}" for run in runs for row in ("prompted", "pilot", "gen 1")),
    ]
    (tmp_path / "b").mkdir()
    with pytest.raises(UserError, match="two of these are called 'once'; rename one of them"):
        list(rows_of([once, once.rename(tmp_path / "b" / "once.json")]))


def test_what_cannot_be_judged_is_named(once: Path, tmp_path: Path, config: Path, capsys) -> None:
    def refused(*words: str | Path) -> str:
        assert main(["judge", *map(str, words), "--json", str(tmp_path / "out.json")]) == 2
        return capsys.readouterr().err

    assert "is no run that says who judges; give --config" in refused(once)
    nobody = tmp_path / "nobody.yaml"
    nobody.write_text("name: nobody\n")
    assert "set policies.judge and judge.answers" in refused(once, "--config", nobody)
    older = tmp_path / "older.json"
    older.write_text(
        json.dumps({key: value for key, value in json.loads(once.read_text()).items() if key != "questions"})
    )
    assert "older.json: neither a run's folder nor a file of" in refused(older, "--config", config)
    labels = tmp_path / "people.jsonl"
    labels.write_text('{"row": "another", "label": 1}\n')
    assert "there is no row 'another'; those judged are model" in refused(once, "--config", config, "--labels", labels)
    labels.write_text('{"row": "model", "label": true}\n')
    with pytest.raises(UserError, match=r"people\.jsonl:1: malformed label of a row"):
        read_given(labels)
