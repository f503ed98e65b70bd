"""RISE in the loop, tiny: collected with an oracle, learned by reward-weighted regression, measured without one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import rest_jax
from rest_jax.cli.main import main
from rest_jax.config.tables import PaperSettings, TableConfig, TableRow, TableRun
from rest_jax.core.effects import ORACLE
from rest_jax.core.errors import UserError
from rest_jax.recipes.players import evaluations
from rest_jax.recipes.stages import finished_stages
from rest_jax.recipes.tables import beside, controlled, runs_of
from rest_jax.recipes.verify import verify
from rest_jax.rollout import store

CONFIG = """\
extends: {tiny}
task: {{name: arithmetic}}
agent: {{name: rise_collect, turns: 2, turn_tokens: 40, candidates: 3, temperature: 1.0}}
pilot: {{demonstrations: 3, improve: {{steps: 1, rows: 2, length: 320, warmup: 0}}}}
generations:
  - grow: {{questions: 2, samples: 1}}
    improve: {{thresholds: [-1.0], weighting: {{temperature: 0.4}}, steps: 1, rows: 2, length: 320, warmup: 0}}
evaluate:
  {{prompted: 1, pilot: 1, gate: 0, generations: 1, final: 2, floors: [], methods: [rise, rise_neutral, rise_parallel]}}
"""


def written(folder: Path, tiny: Path, text: str = CONFIG) -> Path:
    (folder / "rise.yaml").write_text(text.format(tiny=tiny))
    return folder / "rise.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_config: Path) -> Path:
    folder = tmp_path_factory.mktemp("rise")
    rest_jax.run(written(folder, tiny_config), run_dir=folder / "run")
    return folder / "run"


def test_attempts_are_collected_and_all_of_them_learned(run: Path) -> None:
    stages = {done.name.removeprefix("seed-0/"): done for done in finished_stages(run)}
    shown = store.read(stages["demonstrations"].folder / "trajectories.parquet")
    assert [len(one.calls) for one in shown] == [1, 1, 1], "a script is right at once"
    grown = store.read(stages["gen-1/grow"].folder / "trajectories.parquet")
    assert [[len(call.candidates) for call in one.calls] for one in grown] == [[1, 3], [1, 3]]
    assert stages["gen-1/improve-1"].results["examples"] == 3 + 4
    assert verify(run).differences == ()


def test_policies_are_measured_as_other_methods_that_know_no_gold(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    rows = {row["name"]: row for row in summary["rows"]}
    compared = {(entry["a"], entry["b"], entry["metric"]) for entry in summary["comparisons"]}
    assert ("rise: gen 1", "rise_parallel: gen 1", "em_majority") in compared
    assert ("rise_neutral: gen 1", "rise_neutral: pilot", "em") in compared
    assert not any("rise" in note for note in summary["warnings"])
    methods = ("rise", "rise_neutral", "rise_parallel")
    assert [name for name in rows if ": " in name] == [
        f"{m}: {row}" for row in ("prompted", "pilot", "gen 1") for m in methods
    ]
    for method in methods:
        row = rows[f"{method}: gen 1"]
        assert (row["n"], row["trials_per_trajectory"], row["waves"]) == (2, 5.0, 5.0)
        assert row["weights_digest"] == rows["gen 1"]["weights_digest"]
        (stage,) = evaluations(run, f"{method}: gen 1")
        played = store.read(stage.folder / "trajectories.parquet")
        assert [len(one.calls) for one in played] == [5, 5]
        assert not any(call.tool == ORACLE for one in played for call in one.tool_calls)
        told = ["Verdict:" in "".join(segment.text for segment in one.calls[1].segments) for one in played]
        assert told == [method != "rise_parallel"] * 2


def test_papers_metrics_are_read_from_its_rows(run: Path) -> None:
    """m5@t1, m1@t5 and p1@t5 of `docs/methods.md`, with the intervals of their records, and m1@t5 less m5@t1."""
    entries = [("rise_parallel", "majority"), ("rise", "majority"), ("rise", "any"), ("rise", "first")]
    rows = [TableRow(f"{name} {answer}", 50.0, None, "run", f"{name}: gen 1", answer) for name, answer in entries]
    rows[1] = replace(rows[1], against=(rows[0].name,))
    table = TableConfig(
        PaperSettings("A paper", "1", "Table 1", "EM"), tuple(rows), (TableRun("run", "rise.yaml", str(run)),)
    )
    (told,) = controlled(table, runs_of(table, run.parent))
    compared = json.loads((run / "summary.json").read_text())["comparisons"]
    (same,) = (
        one
        for one in compared
        if (one["a"], one["b"], one["metric"]) == ("rise: gen 1", "rise_parallel: gen 1", "em_majority")
    )
    assert told.startswith(f"rise majority − rise_parallel majority, em: {100 * same['difference']:+.1f} points [")
    assert "2 questions; right alone " in told
    summary = {row["name"]: row for row in json.loads((run / "summary.json").read_text())["rows"]}
    for line, (name, answer) in zip(beside(table, runs_of(table, run.parent)), entries, strict=True):
        assert line.ours == f"{100 * summary[f'{name}: gen 1'][f'em_{answer}']:.1f}"
        assert line.interval is not None
        assert line.interval[0] <= float(line.ours) <= line.interval[1]


def test_what_learned_with_an_oracle_is_asked_as_who_goes_without(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", str(run), "How much is 2 + 2?"]) == 2
    assert "has to be told whether its answers are right, and nobody knows; name one" in capsys.readouterr().err
    assert main(["ask", str(run), "How much is 2 + 2?", "--agent", "rise"]) == 0
    assert capsys.readouterr().out.count("thinks") == 5


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("evaluate.methods=[react_to_cot_sc]", r"no model is trained to be it"),
        ("evaluate.methods=[react]", r"agent 'react' calls search, lookup, and task 'arithmetic' has no corpus"),
        ("engine.widths=[128]", r"engine\.widths: the widest is 128, demonstrations take"),
        ("evaluate.methods=[ryse]", r"no agent called 'ryse'; did you mean 'rise'"),
    ],
)
def test_what_cannot_be_is_refused_at_the_start(tmp_path: Path, tiny_config: Path, change: str, why: str) -> None:
    config = written(tmp_path, tiny_config, CONFIG.replace("candidates: 3, ", ""))
    with pytest.raises(UserError, match=why):
        rest_jax.run(config, run_dir=tmp_path / "run", overrides=[change])
