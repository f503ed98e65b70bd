"""Other thresholds, filters and rewards, counted from a finished run's logs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny_runs import drafting, of_the_search_agent

from rest_jax import register_reward
from rest_jax.cli.main import main
from rest_jax.core.errors import UserError
from rest_jax.core.trajectory import Question, Trajectory
from rest_jax.recipes.players import config_of_run
from rest_jax.recipes.what_if import Wish, what_if
from rest_jax.rollout import store
from rest_jax.tasks.registry import task as open_task
from rest_jax.tasks.splits import Split

GROW = "stages/seed-0/gen-1/grow"


def shortest_first(trajectory: Trajectory, question: Question) -> float:
    return 1.0 if trajectory.sample == 0 else 0.25


register_reward("shortest_first", shortest_first)


def test_the_runs_own_threshold_tells_what_it_trained_on(finished_run: Path) -> None:
    manifest = json.loads((finished_run / "stages/seed-0/gen-1/improve-1/manifest.json").read_text())
    (line,) = what_if(finished_run, Wish())
    assert line.stage == "seed-0/gen-1/grow"
    assert line.grown == len(store.read(finished_run / GROW / "trajectories.parquet"))
    assert line.rows == len(manifest["inputs"]["mixture"])
    assert line.examples + line.too_long == manifest["results"]["examples"]
    assert 0 < line.learned < line.tokens


def test_thresholds_and_rewards_of_ones_own(finished_run: Path) -> None:
    none, half, all_of_them = what_if(
        finished_run, Wish(thresholds=(0.99, 0.5, -1.0), reward="shortest_first", per_question=9)
    )
    assert [none.kept, half.kept, all_of_them.kept] == [6, 6, 12]
    assert half.questions == all_of_them.questions == 6
    assert half.mean_reward == 1.0
    assert all_of_them.mean_reward == pytest.approx(0.625)
    assert half.learned < all_of_them.learned
    (best,) = what_if(finished_run, Wish(thresholds=(-1.0,), reward="shortest_first", per_question=1))
    assert (best.kept, best.mean_reward) == (6, 1.0)


def test_no_model_and_no_task_are_needed(finished_run: Path, tmp_path: Path, capsys) -> None:
    run = shutil.copytree(finished_run, tmp_path / "run")
    for file in run.rglob("*.safetensors"):
        file.unlink()
    shutil.rmtree(run / "data")
    assert main(["what-if", str(run), "--threshold", "-1", "--threshold", "0.9"]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split()[:4] == ["stage", "threshold", "grown", "kept"]
    assert [line.split()[1] for line in lines] == ["-1", "0.9"]
    for filter in ("percentile", "question_percentile", "interpolated"):
        assert main(["what-if", str(run), "--filter", filter]) == 0


def test_as_if_each_question_had_fewer_samples(finished_run: Path) -> None:
    """Aksitov et al. 2023, table 3: the first one, two and four samples of each question."""
    wish = Wish(thresholds=(0.5, -1.0), reward="shortest_first", per_question=9, samples=(1, 2))
    half, one, half_again, two = what_if(finished_run, wish)
    assert [line.grown for line in (half, one, half_again, two)] == [6, 6, 12, 12]
    assert (one.kept, one.grown_reward) == (6, 1.0)
    assert (two.kept, two.grown_reward) == (12, pytest.approx(0.625))
    assert (half.kept, half.examples) == (half_again.kept, half_again.examples)
    assert one.learned < two.learned


def test_as_if_the_agent_had_not_checked_its_answers(finished_run: Path, tmp_path: Path) -> None:
    """The same, table 4."""
    run = of_the_search_agent(finished_run, tmp_path / "run")
    config = config_of_run(run)
    questions = {q.id: q for q in open_task(config.task, tmp_path / "data").splits[Split.TRAIN]}
    file = run / GROW / "trajectories.parquet"
    made = [drafting(t, questions[t.question_id].answer, None if t.sample else "wrong") for t in store.read(file)]
    store.write(file, made)
    (after,) = what_if(run, Wish(reward="correct"))
    (before,) = what_if(run, Wish(reward="correct", draft=True))
    assert (after.grown_reward, after.kept) == (0.0, 0)
    assert (before.grown_reward, before.kept) == (1.0, 12)
    with pytest.raises(UserError, match="its agent, react, drafts no answers"):
        what_if(finished_run, Wish(draft=True))
    judged = run / "stages/seed-0/gen-1/judged"
    judged.mkdir()
    manifest = json.loads((run / GROW / "manifest.json").read_text())
    (judged / "manifest.json").write_text(json.dumps({**manifest, "inputs": {"trusted": {"answers": {}}}}))
    with pytest.raises(UserError, match="its judge's, who heard no drafts"):
        what_if(run, Wish(draft=True))


def test_what_the_settings_refuse(finished_run: Path) -> None:
    with pytest.raises(UserError, match="thresholds"):
        what_if(finished_run, Wish(thresholds=(1.5,)))
    with pytest.raises(UserError, match="nobody registered it"):
        what_if(finished_run, Wish(reward="none_of_this_name"))
