"""The search agent in the loop: on a workbench, and from demonstrations to a model that is it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import rest_jax
from rest_jax.agents.registry import agent
from rest_jax.agents.search_agent.prompt import END
from rest_jax.config.settings import AgentSettings, EngineSettings, ModelSettings, TaskSettings, ToolsSettings
from rest_jax.core.effects import Status
from rest_jax.core.errors import UserError
from rest_jax.core.events import silent
from rest_jax.recipes.agent_file import agent_of, described
from rest_jax.recipes.digest import run_digest
from rest_jax.recipes.mixture import is_sound
from rest_jax.recipes.rehearsal import lengths
from rest_jax.recipes.workbench import RolloutSpec, open_workbench
from rest_jax.rollout import store
from rest_jax.tasks.registry import task as open_task
from rest_jax.tasks.splits import Reader

SMOKE = Path(__file__).resolve().parents[2] / "configs" / "smoke_search_agent.yaml"
AGENT = AgentSettings(name="search_agent", shots=0, turns=4, turn_tokens=160, candidates=2, temperature=0.5)


def test_a_workbench_plays_the_search_agent(tiny_model: Path, tmp_path: Path) -> None:
    """Prompted, with the five steps' beginnings shared, and demonstrated."""
    atlas = open_task(TaskSettings("atlas"), tmp_path)
    opened = open_workbench(
        atlas,
        model=ModelSettings(str(tiny_model)),
        agent_settings=AGENT,
        engine=EngineSettings(rows=4, block=8, chunk=64, widths=(1024,), shared=1400),
        tools=ToolsSettings(results=3),
        emit=silent,
    )
    with opened as bench:
        some = atlas.demonstrations("gold", 4, seed=0)
        demonstrated = bench.demonstrate(tmp_path / "demonstrated", some, "train")
        assert all(is_sound(trajectory) for trajectory in demonstrated)
        assert {trajectory.status for trajectory in demonstrated} == {Status.FINISHED}
        spec = RolloutSpec(atlas.questions("train", Reader.TRAINING, 2), "train")
        prompted = bench.play(tmp_path / "prompted", bench.base, spec)
        expected = lengths(atlas, bench.engine.codec, AGENT)
        paper = replace(bench, agent=replace(AGENT, shots=9))
        floor = paper.prompt(agent("closed_book"), bare=False)  # a floor shows what examples the task has
    assert len(floor.beginnings) == 1
    for made, shows in ((prompted, True), (demonstrated, False)):
        assert {any(s.shots for call in t.calls for s in call.segments) for t in made} == {shows}
    assert {len({c.ids for c in call.candidates}) for t in prompted for call in t.calls} == {2}  # not greedy
    # What is predicted is what demonstrations take: with one passage a search, and here they find three.
    took = sum(t.model_tokens for t in demonstrated) / len(demonstrated)
    assert 0.5 * took < expected.sampled < took


def test_the_agents_file_says_how_its_replies_end() -> None:
    told = described(AGENT, ToolsSettings(results=3), None)
    assert (told["stop"], told["eos_ends"], told["candidates"]) == ([END], "every_turn", 2)


def test_candidates_that_would_all_be_the_same_are_refused(tiny_config: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"agent.candidates: 4 of one step are all the same unless temperature"):
        rest_jax.run(tiny_config, run_dir=tmp_path / "run", overrides=["agent.candidates=4"])


def test_candidates_are_for_a_method_that_chooses_among_them(
    tiny_config: Path, tiny_model: Path, tmp_path: Path
) -> None:
    wanted = ["agent.candidates=4", "agent.temperature=0.5"]
    with pytest.raises(UserError, match=r"agent 'react' does not choose among 4 replies .* such as search_agent"):
        rest_jax.run(tiny_config, run_dir=tmp_path / "run", overrides=wanted)
    assert not (tmp_path / "run" / "stages").exists()
    policy = rest_jax.Policy(str(tiny_model), agent=AgentSettings(candidates=4, temperature=0.5))
    with pytest.raises(UserError, match=r"agent 'react' does not choose among 4 replies"):
        rest_jax.evaluate(policy, rest_jax.Task("atlas"), n=1)


@pytest.mark.slow
def test_the_smoke_config_runs_on_a_real_model_and_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    summary = rest_jax.run(SMOKE, run_dir=run)
    assert [row["name"] for row in summary["rows"]] == ["prompted", "pilot", "gen 1"]
    stages = run / "stages" / "seed-0"
    rewards = json.loads((stages / "demonstrations" / "rewards.json").read_text())
    assert all(rewards.values())  # their answers were found by these tools
    model = agent_of(stages / "gen-1" / "improve-1" / "model")
    assert (model.name, model.bare) == ("search_agent", True)
    grown = store.read(stages / "gen-1" / "grow" / "trajectories.parquet")
    assert {len(call.candidates) for trajectory in grown for call in trajectory.calls} == {2}
    before = run_digest(run)
    for name in ("demonstrations", "gen-1/grow"):
        for file in (stages / name).iterdir():
            if file.name != "inputs.json":
                file.unlink()
    rest_jax.run(SMOKE, run_dir=run)
    assert run_digest(run) == before
