"""A whole run on a tiny model: what it leaves behind, what it refuses, and what of it is the same again."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import pytest

import rest_jax
from rest_jax.cli.main import main
from rest_jax.cli.run import add_run_options
from rest_jax.config.loader import load
from rest_jax.config.settings import RestConfig
from rest_jax.core.errors import UserError
from rest_jax.core.events import silent
from rest_jax.recipes.digest import run_digest
from rest_jax.recipes.players import model_of, models_of_run
from rest_jax.recipes.rest import Loop
from rest_jax.recipes.run import notes, refuse_alone, refuse_too_few
from rest_jax.recipes.stages import open_run
from rest_jax.recipes.workbench import open_workbench
from rest_jax.tasks.files import write_jsonl
from rest_jax.tasks.registry import task as open_task

ROW_KEYS = {
    *("name", "task", "split", "n", "em", "em_well_formed", "em_grounded", "f1", "em_ci", "well_formed"),
    *("finished", "masked"),
    *("searches_per_trajectory", "kept_fraction", "seconds", "weights_digest"),
}


def files(run: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (run / "stages").rglob("*") if path.is_file()}


def test_the_summary_has_the_documented_fields(finished_run: Path) -> None:
    summary = json.loads((finished_run / "summary.json").read_text())
    named = [row["name"] for row in summary["rows"]]
    assert named == ["prompted", "pilot", "pilot (select)", "gen 1", "most frequent answer"]
    assert all(set(row) >= ROW_KEYS for row in summary["rows"])
    assert {(c["a"], c["b"], c["metric"]) for c in summary["comparisons"]} == {
        ("gen 1", "pilot", metric) for metric in ("em", "em_well_formed", "em_grounded")
    }
    assert summary["rows"][-1]["n"] == 4
    assert summary["task"]["splits"]["train"]["questions"] == 1000
    assert "atlas train: 1000 questions" in " ".join(summary["notes"])


def test_a_pilot_that_does_not_keep_the_format_is_warned_of_before_it_grows(finished_run: Path) -> None:
    summary = json.loads((finished_run / "summary.json").read_text())
    gate = summary["rows"][2]
    assert (gate["split"], gate["n"]) == ("select", 3)
    assert gate["well_formed"] < 0.95
    (said,) = [text for text in summary["warnings"] if "well-formed" in text]
    assert said.startswith("seed 0: the pilot is well-formed in")
    assert said.endswith("raise pilot.improve.steps or pilot.demonstrations")
    assert said.split(":")[1] in (finished_run / "report.html").read_text()


def test_a_grow_that_keeps_nothing_is_warned_of_and_marked_on_its_row(finished_run: Path) -> None:
    summary = json.loads((finished_run / "summary.json").read_text())
    pilot, generation = summary["rows"][1], summary["rows"][3]
    assert (generation["kept_fraction"], pilot["remark"]) == (0.0, "")
    assert generation["remark"] == "seed 0 kept nothing and learned from its demonstrations alone"
    (said,) = [text for text in summary["warnings"] if "keeps nothing" in text]
    assert said.startswith("seed 0: generation 1 keeps nothing over threshold 0.5 (best reward 0)")


def test_a_manifest_names_the_splits_that_its_own_stage_read(finished_run: Path) -> None:
    def read(stage: str) -> list[tuple[str, str, int]]:
        manifest = json.loads((finished_run / "stages" / "seed-0" / stage / "manifest.json").read_text())
        return [(r["split"], r["reader"], r["questions"]) for r in manifest["results"]["splits_read"]]

    assert read("floor-most_frequent") == [("select", "evaluation", 4), ("train", "training", 1000)]
    assert read("gen-1/grow") == [("train", "training", 6)]
    assert read("gen-1/evaluate-select") == [("select", "evaluation", 4)]


def test_right_on_the_page_is_what_the_task_calls_right(finished_run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(finished_run, tmp_path / "copy")
    rewards = copy / "stages" / "seed-0" / "gen-1" / "grow" / "rewards.json"
    rewards.write_text(json.dumps(dict.fromkeys(json.loads(rewards.read_text()), 1.0)))
    assert main(["report", str(copy)]) == 0
    page = (copy / "report.html").read_text()
    assert page.count('data-stage="seed-0/gen-1/grow" data-em="0"') == 12
    replayed = json.loads((copy / "stages" / "seed-0" / "demonstrations" / "rewards.json").read_text())
    right = sum(1 for reward in replayed.values() if reward)
    assert page.count('data-stage="seed-0/demonstrations" data-em="1"') == right > 0


def test_the_folder_says_with_what_it_was_made(finished_run: Path) -> None:
    environment = json.loads((finished_run / "run.json").read_text())["environment"]
    assert environment["jax"] == jax.__version__
    assert (environment["platform"], environment["dtype"]) == ("cpu", "float32")
    assert f"<td>jax</td><td>{jax.__version__}</td>" in (finished_run / "report.html").read_text()


def test_a_rollout_leaves_what_it_took(finished_run: Path) -> None:
    lines = [json.loads(line) for line in (finished_run / "metrics.jsonl").read_text().splitlines()]
    took = {line["stage"]: line for line in lines if line["kind"] == "metrics" and "occupancy" in line}
    assert {"seed-0/prompted/evaluate-select", "seed-0/gen-1/grow"} <= took.keys()
    first = took["seed-0/prompted/evaluate-select"]
    assert first["prefilled_tokens"] > first["step"]
    for line in took.values():
        assert 0 < line["occupancy"] <= 1
        assert line["sampled_tokens"] > 0 < line["engine_seconds"]
        assert (line["parked"], line["unparked"]) == (0, 0)
        assert line["copied_bytes"] == line["copied"] * 768 * 2 * 2 * 2 * 8 * 4
    assert any(line["copied"] for line in took.values())
    page = (finished_run / "report.html").read_text()
    for line in took.values():
        assert f"<td>{line['stage']}</td><td>{line['step']}</td><td>{line['sampled_tokens']:,}</td>" in page


def test_the_folder_holds_config_metrics_report_and_no_parts(finished_run: Path) -> None:
    made = {path.name for path in finished_run.iterdir()}
    assert made >= {"config.yaml", "run.json", "metrics.jsonl", "report.html", "summary.json"}
    assert not list(finished_run.rglob("journal.jsonl"))
    assert not list(finished_run.rglob("checkpoints"))
    assert (finished_run / "stages" / "seed-0" / "gen-1" / "improve-1" / "model" / "agent.json").is_file()


def test_repeating_a_finished_run_makes_nothing_again(finished_run: Path, tiny_config: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished_run, tmp_path / "run")
    before = files(run)
    rest_jax.run(tiny_config, run_dir=run)
    assert files(run) == before


def test_the_digest_is_that_of_the_content(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run_digest(finished_run)
    assert main(["run-digest", str(finished_run)]) == 0
    assert capsys.readouterr().out.strip() == whole
    copy = shutil.copytree(finished_run, tmp_path / "copy")
    assert run_digest(copy) == whole
    shutil.rmtree(copy / "stages" / "seed-0" / "gen-1" / "evaluate-select")
    assert run_digest(copy) != whole


def test_a_stage_made_again_is_made_the_same(finished_run: Path, tiny_config: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(finished_run, tmp_path / "copy")
    for stage in ("gen-1/grow", "gen-1/improve-1"):
        shutil.rmtree(copy / "stages" / "seed-0" / stage)
    rest_jax.run(tiny_config, run_dir=copy)
    assert run_digest(copy) == run_digest(finished_run)


def test_a_run_of_another_config_is_refused_in_one_line(
    finished_run: Path, tiny_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(tiny_config), "--run-dir", str(finished_run), "--set", "agent.turns=3"]) == 2
    error = capsys.readouterr().err
    assert "made with another config (agent.turns); give another --run-dir, or that config" in error
    assert error.count("\n") == 1


def test_stages_made_with_other_tools_are_refused(finished_run: Path, tiny_config: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(finished_run, tmp_path / "copy")
    (tmp_path / "tools.yaml").write_text("tools: [{kind: corpus, results: 2}]\n")
    with pytest.raises(UserError, match="made from another tools; remove this folder, or start a new --run-dir"):
        rest_jax.run(tiny_config, run_dir=copy, overrides=[f"tools.config={tmp_path / 'tools.yaml'}"])


def test_a_pilot_without_demonstrations_says_why(tiny_config: Path, tmp_path: Path) -> None:
    why = re.escape(
        "none of the 4 demonstrations, as react, found its answer (step_limit 4); they take more turns than agent.turns"
    )
    with pytest.raises(UserError, match=f"pilot: {why} allows, raise it, then start a new --run-dir"):
        rest_jax.run(tiny_config, run_dir=tmp_path / "run", overrides=["agent.turns=1", "evaluate.prompted=1"])


def test_a_method_without_tools_learns_from_demonstrations_too(tiny_config: Path, tmp_path: Path) -> None:
    """Its answers stand in no observation, and need not (ReAct's fine-tuned baselines, Yao et al. 2023, figure 3)."""
    loaded = load(tiny_config, RestConfig, ["agent.name=cot"])
    config = loaded.value
    atlas = open_task(config.task, tmp_path)
    opened = open_workbench(
        atlas, model=config.model, agent_settings=config.agent, engine=config.engine, tools=config.tools, emit=silent
    )
    with opened as bench, open_run(tmp_path / "run", loaded, {}, silent) as run:
        replayed = Loop(config, 0, run, bench).demonstrate("demonstrations", atlas.demonstrations("gold", 4, seed=0))
    assert [replayed.rewards[trajectory.id] for trajectory in replayed.rewarding] == [1.0] * 4


def test_a_truncated_shard_is_named(finished_run: Path, tiny_config: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(finished_run, tmp_path / "copy")
    shard = copy / "stages" / "seed-0" / "gen-1" / "grow" / "trajectories.parquet"
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"grow/trajectories.parquet: truncated or damaged"):
        rest_jax.run(tiny_config, run_dir=copy)


def test_rows_name_their_models(finished_run: Path) -> None:
    assert list(models_of_run(finished_run)) == ["prompted", "pilot", "gen 1"]
    assert model_of(str(finished_run)).endswith("gen-1/improve-1/model")
    with pytest.raises(UserError, match="no model of a row 'gen 9', only of prompted, pilot, gen 1"):
        model_of(str(finished_run), "gen 9")


def test_dry_run_checks_the_file_of_tools(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tools.yaml").write_text("tools: [{kind: corups}]\n")
    file = f"tools.config={tmp_path / 'tools.yaml'}"
    assert main(["run", str(tiny_config), "--run-dir", str(tmp_path / "run"), "--dry-run", "--set", file]) == 2
    assert "tools.yaml:1:16: tools.0: unknown kind 'corups'; did you mean 'corpus'?" in capsys.readouterr().err


def test_a_corpus_that_cannot_support_the_answers_is_refused(tiny_config: Path, tmp_path: Path) -> None:
    """Its rows would measure what the model remembers, as those of `eval`."""
    config = load(tiny_config, RestConfig).value
    write_jsonl(tmp_path / "c.jsonl", [{"title": "x", "text": "y"}])
    task = replace(open_task(config.task, tmp_path), corpus_file=tmp_path / "c.jsonl")
    with pytest.raises(UserError, match=r"c\.jsonl: the corpus supports 0/4 answers.*--closed-book"):
        refuse_too_few(config, task)
    assert "the corpus supports 0/4 answers (0.0 %)" in notes(config, task)
    assert not [note for note in notes(config, open_task(config.task, tmp_path)) if "supports" in note]
    options = argparse.ArgumentParser()
    add_run_options(options)
    meant = load(tiny_config, RestConfig, options.parse_args(["--closed-book"]).overrides)
    refuse_too_few(meant.value, task)
    assert meant.digest == load(tiny_config, RestConfig).digest


def test_dry_run_prints_the_plan_and_makes_no_run(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(tiny_config), "--run-dir", str(tmp_path / "run"), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "grow 1" in out
    total, time = out.splitlines()[-2:]
    assert total.startswith("total")
    assert re.match(r"about 1 min on two CPU cores, at \d+ sampled, ", time)
    assert not (tmp_path / "run").exists()


def strategyqa(data: Path) -> list[str]:
    """A run on a task that has train questions, and neither demonstrations nor a corpus."""
    generation = "generations.0.improve.thresholds=[-1.0]"  # a random model's samples are all worth 0
    evaluate = ["evaluate.gate=0", "evaluate.floors=[]"]
    return [
        "task.name=strategyqa",
        f"task.data={data}",
        "agent.name=cot",
        "pilot.demonstrations=0",
        generation,
        *evaluate,
    ]


def test_a_task_without_demonstrations_is_planned_by_its_worked_examples(
    tiny_config: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = [word for setting in strategyqa(data) for word in ("--set", setting)]
    command = ["run", str(tiny_config), "--run-dir", str(tmp_path / "run"), "--dry-run", *sets]
    assert main(command) == 0
    grow = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("grow 1"))
    assert grow.split()[2:4] == ["12", "trajectories"]
    assert main([*command, "--set", "evaluate.controls=[gold]"]) == 2
    assert "task 'strategyqa': no demonstrations called 'gold'; it has none" in capsys.readouterr().err


@pytest.mark.slow
def test_a_task_without_demonstrations_is_grown_on(tiny_config: Path, data: Path, tmp_path: Path) -> None:
    summary = rest_jax.run(tiny_config, run_dir=tmp_path / "run", overrides=strategyqa(data))
    assert [(row["name"], row["kept_fraction"]) for row in summary["rows"]] == [
        ("prompted", None),
        ("pilot", None),
        ("gen 1", 1.0),
    ]
    assert not [note for note in summary["notes"] if "BM25" in note]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["policies.judge={url: 'http://127.0.0.1:1', model: any}"],
            "policies: what an endpoint replies is kept by one",
        ),
        (["tools.mode=record", "tools.cassette=calls.jsonl"], "tools.mode: a cassette is recorded by one process"),
    ],
)
def test_what_is_written_as_it_comes_is_refused_to_several_processes(
    tiny_config: Path, overrides: list[str], said: str
) -> None:
    refuse_alone(load(tiny_config, RestConfig).value)
    with pytest.raises(UserError, match=f"^{said}.* or start the run as one process \\(REST_JAX_PROCESSES=1\\)$"):
        refuse_alone(load(tiny_config, RestConfig, overrides).value)


@pytest.mark.slow
def test_two_seeds_with_all_controls_and_floors(tiny_config: Path, tmp_path: Path) -> None:
    wanted = [
        "seeds=[0, 1]",
        "evaluate.controls=[more_pilot, random_samples, majority, gold]",
        "evaluate.floors=[closed_book, most_frequent, question_as_query]",
    ]
    summary = rest_jax.run(tiny_config, run_dir=tmp_path / "run", overrides=wanted)
    rows = {row["name"]: row for row in summary["rows"]}
    controls = ["A more pilot", "B random samples", "C majority", "D gold"]
    floors = ["closed book", "most frequent answer", "question as query"]
    assert list(rows) == ["prompted", "pilot", "pilot (select)", "gen 1", *controls, *floors]
    assert re.fullmatch(r"seed 0: .* vote of \d+ samples, .*; seed 1: .*", rows["C majority"]["remark"])
    assert all((rows[name]["n"], rows[name]["seeds"]) == (8, 2) for name in ["pilot", "gen 1", *controls])
    assert {entry["b"] for entry in summary["comparisons"]} == {"pilot", *controls}
    losses = {
        name: json.loads((tmp_path / "run" / "stages" / "seed-0" / name / "manifest.json").read_text())["results"]
        for name in ("gen-1/improve-1", *(f"control-{c}/gen-1/improve-1" for c in ("more_pilot", "gold")))
    }
    assert {len(result["losses"]) for result in losses.values()} == {4}
