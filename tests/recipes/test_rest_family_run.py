"""Whole runs, tiny, of what the presets ask for: no warm start, and Improve steps that select chooses among."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

import rest_jax
from rest_jax.core.trajectory import Question, Trajectory
from rest_jax.recipes.digest import run_digest
from rest_jax.recipes.players import models_of_run
from rest_jax.recipes.run import read_summary
from rest_jax.recipes.stages import finished_stages
from rest_jax.recipes.verify import verify
from rest_jax.rollout import store


def rising(trajectory: Trajectory, question: Question) -> float | None:
    """Better the more a trajectory says: something that a random model can be better and worse at."""
    said = sum(len(call.candidates[call.chosen].text) for call in trajectory.calls)
    return None if trajectory.status.is_masked else 1 - math.exp(-said / 200)


SELECTING = [
    "task.reward=rising",
    "generations.0.improve.thresholds=[0.0, 0.1]",
    "generations.0.improve.select=2",
    "generations.0.improve.rounds=2",
    "generations.0.improve.rate_decay=0.5",
    "evaluate.gate=0",
    "evaluate.floors=[]",
    "evaluate.controls=[low_perplexity, majority]",
]


@pytest.fixture(scope="module")
def selected(tmp_path_factory: pytest.TempPathFactory, tiny_config: Path) -> Path:
    rest_jax.register_reward("rising", rising)
    folder = tmp_path_factory.mktemp("runs") / "selected"
    rest_jax.run(tiny_config, run_dir=folder, overrides=SELECTING)
    return folder


def test_each_improve_step_is_measured_on_select_and_the_best_is_the_generation(selected: Path) -> None:
    stages = {done.name.removeprefix("seed-0/"): done for done in finished_stages(selected)}
    reached = {
        name.removeprefix("gen-1/select-"): done.results["mean_reward"]
        for name, done in stages.items()
        if name.startswith("gen-1/select-")
    }
    improved = {name.removeprefix("gen-1/improve-") for name in stages if name.startswith("gen-1/improve-")}
    assert reached.keys() == {"0", *improved}
    assert {"1", "2"} <= improved
    assert ("1-round-2" in improved) == (reached["1"] > reached["0"])
    best = max(reached, key=lambda label: (reached[label], label == "0"))
    taken = stages["gen-1/evaluate-select"].inputs["player"]["weights_digest"]
    made_by = stages["pilot" if best == "0" else f"gen-1/improve-{best}"]
    assert taken == made_by.results["weights_digest"]
    assert models_of_run(selected)["gen 1"] == str(made_by.folder / "model")


def test_rows_say_where_select_left_them_more_or_fewer_steps(selected: Path) -> None:
    remarks = {row["name"]: row["remark"] for row in read_summary(selected)["rows"]}
    stages = {done.name.removeprefix("seed-0/"): done for done in finished_stages(selected)}
    for row, improved, measured in (
        ("gen 1", "gen-1/improve-", "gen-1"),
        ("F low perplexity", "control-low_perplexity/gen-1/improve-", "control-low_perplexity"),
    ):
        start_of = {
            done.results["weights_digest"]: done.inputs["start"]["weights_digest"]
            for name, done in stages.items()
            if name.startswith(improved)
        }
        policy, steps = stages[f"{measured}/evaluate-select"].inputs["player"]["weights_digest"], 0
        while policy in start_of:
            policy, steps = start_of[policy], steps + 4
        assert (f"seed 0: {steps} optimizer steps instead of 8" in remarks[row]) is (steps != 8)


def test_the_majority_may_spend_what_the_choice_cost(selected: Path) -> None:
    stages = {done.name.removeprefix("seed-0/"): done for done in finished_stages(selected)}

    def tokens(*names: str) -> int:
        return sum(t.model_tokens for name in names for t in store.read(stages[name].folder / "trajectories.parquet"))

    chosen = [name for name in stages if name.startswith("gen-1/select-")]
    spent = tokens("gen-1/grow", "gen-1/evaluate-select", *chosen)
    samples = stages["control-majority/evaluate-select"].inputs["samples"]
    assert samples == round(spent / tokens("pilot/evaluate-select"))
    assert samples > round((spent - tokens(*chosen)) / tokens("pilot/evaluate-select"))


def test_further_thresholds_learn_more_slowly(selected: Path) -> None:
    stages = {done.name: done for done in finished_stages(selected)}
    first, second = (stages[f"seed-0/gen-1/improve-{step}"].inputs["improve"]["learning_rate"] for step in (1, 2))
    assert second == first / 2


def test_the_choice_reads_select_alone(selected: Path) -> None:
    chosen = [done for done in finished_stages(selected) if "/select-" in done.name]
    assert len(chosen) >= 3
    for done in chosen:
        (read,) = done.results["splits_read"]
        assert (read["split"], read["reader"], read["questions"]) == ("select", "selection", 2)


def test_a_choice_made_again_is_made_the_same(selected: Path, tiny_config: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(selected, tmp_path / "copy")
    for stage in ("gen-1/select-1", "gen-1/improve-2"):
        shutil.rmtree(copy / "stages" / "seed-0" / stage)
    rest_jax.run(tiny_config, run_dir=copy, overrides=SELECTING)
    assert run_digest(copy) == run_digest(selected)


def test_without_demonstrations_the_prompted_model_grows_and_each_generation_starts_from_the_base(
    tiny_config: Path, tmp_path: Path
) -> None:
    (tmp_path / "star.yaml").write_text(
        f"extends: {tiny_config}\npreset: star\n"
        "generations:\n"
        "  - &one\n"
        "    grow: {questions: 1, samples: 2}\n"
        "    improve: {steps: 1, rows: 1, length: 768, warmup: 0, thresholds: [-1.0]}\n"
        "  - *one\n"
        "evaluate: {prompted: 2, pilot: 2, gate: 0, generations: 2, final: 2, floors: [], controls: [data_1x]}\n"
    )
    run = tmp_path / "run"
    summary = rest_jax.run(tmp_path / "star.yaml", run_dir=run)
    stages = {done.name.removeprefix("seed-0/"): done for done in finished_stages(run)}
    assert not {"pilot", "demonstrations"} & stages.keys()
    base = stages["gen-1/grow"].inputs["player"]
    assert base["bare"] is False
    assert [stages[f"gen-{number}/improve-1"].inputs["start"] for number in (1, 2)] == [base, base]
    assert stages["gen-2/grow"].inputs["player"]["weights_digest"] != base["weights_digest"]
    learned = [name for name in stages if name.startswith("control-") and "improve" in name]
    assert learned == ["control-data_1x/gen-2/improve-1"], "what generation 1 made would leave no trace"
    assert {stages[f"gen-{number}/grow"].inputs["reward"] for number in (1, 2)} == {"correct"}
    rows = {row["name"]: row for row in summary["rows"]}
    assert rows["pilot"]["remark"] == "no demonstrations: the prompted model itself"
    assert rows["pilot"]["weights_digest"] == rows["prompted"]["weights_digest"]
    assert list(models_of_run(run)) == ["prompted", "gen 1", "gen 2"]


def test_a_mixture_without_anything_stops_no_run(tiny_config: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Nothing that a random model says is right: each generation samples, keeps nothing, and the policy before goes
    on, the loop's as well as a control's and a student's."""
    (tmp_path / "star.yaml").write_text(
        f"extends: {tiny_config}\npreset: star\nstudents: [{{name: {tiny_model}}}]\n"
        "generations:\n"
        "  - &one\n"
        "    grow: {questions: 2}\n"
        "    improve: {steps: 1, rows: 1, length: 768, warmup: 0, thresholds: [0.5, 0.7], select: 2}\n"
        "  - *one\n"
        "evaluate: {prompted: 2, pilot: 2, gate: 0, generations: 2, final: 2, floors: [], controls: [more_gen_1]}\n"
    )
    run = tmp_path / "run"
    summary = rest_jax.run(tmp_path / "star.yaml", run_dir=run)
    rows = {row["name"]: row for row in summary["rows"]}
    learned_nothing = ["gen 1", "gen 2", "E more gen 1", f"student {tiny_model.name}"]
    assert {rows[name]["weights_digest"] for name in learned_nothing} == {rows["prompted"]["weights_digest"]}
    steps = "seed 0: 0 optimizer steps instead of 1"
    assert [rows[name]["remark"] for name in learned_nothing] == [
        f"seed 0: kept nothing, the policy before it goes on; {steps}",
        f"seed 0: kept nothing, the policy before it goes on; {steps}",
        f"seed 0: generation 2 has nothing to learn from, the policy before it goes on; {steps}",
        "seed 0 has nothing to learn from",
    ]
    assert [row["kept_fraction"] for row in (rows["gen 1"], rows["gen 2"])] == [0.0, 0.0]
    told = [line for line in summary["warnings"] if "keeps nothing" in line]
    assert len(told) == 4
    assert told[0].startswith(
        "seed 0: generation 1 keeps nothing over threshold 0.5 (best reward 0) and learns nothing"
    )
    assert list(models_of_run(run)) == ["prompted", "gen 1", "gen 2", f"student {tiny_model.name} prompted"]
    assert verify(run).differences == ()
