"""Seeds of one configuration that were run apart."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import rest_jax
from rest_jax.cli.main import main
from rest_jax.core.errors import UserError
from rest_jax.evaluation.records import OF_ATTEMPTS
from rest_jax.evaluation.statistics import interval
from rest_jax.recipes.pool import evidence_of, pooled, summary, write_evidence

TIMELESS = ("rows", "comparisons", "notes", "task", "title")


@pytest.fixture(scope="module")
def other_seed(tmp_path_factory: pytest.TempPathFactory, tiny_config: Path) -> Path:
    folder = tmp_path_factory.mktemp("pool") / "one"
    rest_jax.run(tiny_config, run_dir=folder, overrides=["seeds=[1]"])
    return folder


def untimed(found: dict) -> dict:
    rows = [{key: row[key] for key in row if key != "seconds"} for row in found["rows"]]
    return {**{key: found[key] for key in TIMELESS}, "rows": rows}


def unfolded(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed, whatever the width of the terminal."""
    return " ".join(capsys.readouterr().out.split())


def test_seeds_of_two_runs_are_the_table_of_one(
    finished_run: Path, other_seed: Path, tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = rest_jax.run(tiny_config, run_dir=tmp_path / "both", overrides=["seeds=[0, 1]"])
    assert untimed(summary(pooled([other_seed, finished_run]))) == untimed(both)
    files = [tmp_path / "zero.jsonl", tmp_path / "one.jsonl"]
    for run, file in zip((finished_run, other_seed), files, strict=True):
        assert main(["pool", str(run), "--evidence", str(file)]) == 0
    out, together = tmp_path / "out.json", tmp_path / "together.jsonl"
    assert main(["pool", *map(str, files), "--json", str(out), "--evidence", str(together)]) == 0
    assert untimed(json.loads(out.read_text())) == untimed(both)
    assert "seeds 0, 1; intervals: 95 % bootstrap over questions; these seeds fixed" in unfolded(capsys)
    assert untimed(summary(pooled([together]))) == untimed(both)


def test_a_students_prompted_row_is_the_first_seeds_alone(finished_run: Path, other_seed: Path, tmp_path: Path) -> None:
    files = []
    for run in (finished_run, other_seed):
        evidence = evidence_of(run)
        (prompted,) = [one for one in evidence.measured if one.name == "prompted"]
        student = replace(prompted, name="student small prompted")
        files.append(tmp_path / f"{run.name}.jsonl")
        write_evidence(files[-1], replace(evidence, measured=(*evidence.measured, student)))
    rows = {row["name"]: row for row in summary(pooled(files))["rows"]}
    assert rows["student small prompted"]["n"] == rows["prompted"]["n"]
    assert rows["pilot"]["n"] == 2 * rows["prompted"]["n"]


def test_evidence_comes_back_as_it_was_written(finished_run: Path, tmp_path: Path) -> None:
    evidence = evidence_of(finished_run)
    write_evidence(tmp_path / "evidence.jsonl", evidence)
    again = evidence_of(tmp_path / "evidence.jsonl")
    assert summary(again) == summary(evidence)
    assert [one.records for one in again.measured] == [one.records for one in evidence.measured]
    assert again.seeds == [0]
    assert again.environments["0"]["jax"] == json.loads((finished_run / "run.json").read_text())["environment"]["jax"]


def test_evidence_that_was_written_before_records_told_of_attempts_is_read(finished_run: Path, tmp_path: Path) -> None:
    evidence, file = evidence_of(finished_run), tmp_path / "evidence.jsonl"
    write_evidence(file, evidence)
    about, *lines = map(json.loads, file.read_text().splitlines())
    for line in lines:
        assert all(not any(line["records"].pop(name)) for name in OF_ATTEMPTS)
    file.write_text("\n".join(map(json.dumps, [about, *lines])))
    assert summary(evidence_of(file)) == summary(evidence)


def test_what_older_evidence_says_of_intervals_is_left_to_the_pooled_summary(
    finished_run: Path, tmp_path: Path
) -> None:
    evidence, file = evidence_of(finished_run), tmp_path / "evidence.jsonl"
    first, *others = evidence.notes
    write_evidence(file, replace(evidence, notes=(f"{first}; intervals: 95 % bootstrap over questions", *others)))
    assert summary(evidence_of(file)) == summary(evidence)


def test_three_seeds_and_more_are_resampled(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the published five: what was measured once for all seeds is over questions, and all of it was wrong."""
    published = sorted((Path(__file__).parents[2] / "docs" / "evidence" / "atlas_proof").glob("*.jsonl"))
    found = summary(pooled(published))
    rows = {row["name"]: row for row in found["rows"]}
    wrong = [0.0, pytest.approx(1 - 0.025 ** (1 / 100))]
    assert (rows["prompted"]["seeds"], rows["prompted"]["em_ci"]) == (1, wrong)
    fixed = [replace(r, seed=0) for one in pooled(published).measured if one.name == "gen 2" for r in one.records]
    (low, high), (inner_low, inner_high) = rows["gen 2"]["em_ci"], interval(fixed, "em")
    assert low < inner_low < inner_high < high
    assert main(["pool", *map(str, published)]) == 0
    said = unfolded(capsys)
    assert "bootstrap over questions and seeds (a row of fewer than 3 seeds: over questions; these seeds fixed)" in said
    assert said.count("bootstrap") == 1


def test_what_cannot_be_pooled(finished_run: Path, other_seed: Path, tmp_path: Path) -> None:
    file, other = tmp_path / "evidence.jsonl", tmp_path / "other.jsonl"
    write_evidence(file, evidence_of(finished_run))
    with pytest.raises(UserError, match=r"seed 0 is in .* too; give each seed once"):
        pooled([finished_run, file])
    about, *lines = file.read_text().splitlines()
    changed = json.loads(about)
    changed["config"]["agent"]["turns"] += 1
    other.write_text("\n".join([json.dumps(changed), *lines]))
    with pytest.raises(UserError, match=r"made with other settings \(agent\.turns\) than .*; only their seeds"):
        pooled([other, other_seed])
    for text, why in [
        ("nothing", "no evidence of"),
        ("[]", "no evidence of"),
        ("5", "no evidence of"),
        (json.dumps({**changed, "schema_version": 9}), "evidence of schema version 9"),
        ("\n".join([about, '{"records": {}}']), "damaged"),
    ]:
        other.write_text(text)
        with pytest.raises(UserError, match=why):
            evidence_of(other)
    with pytest.raises(UserError, match="no such run and no such file"):
        evidence_of(tmp_path / "nowhere")
    touched = shutil.copytree(finished_run, tmp_path / "touched")
    records = touched / "stages/seed-0/pilot/evaluate-select/records.json"
    records.write_text(records.read_text().replace('"em": 0.0', '"em": 1.0'))
    with pytest.raises(UserError, match="see `rest-jax verify"):
        evidence_of(touched)
