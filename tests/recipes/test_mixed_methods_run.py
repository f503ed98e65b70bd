"""A run that learns several methods at once, tiny: played together, told apart by a line, learned in one mixture."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

import rest_jax
from rest_jax.cli.main import main
from rest_jax.core.effects import ORACLE
from rest_jax.core.errors import UserError
from rest_jax.core.trajectory import Trajectory, context_of
from rest_jax.recipes.stages import finished_stages
from rest_jax.recipes.verify import verify
from rest_jax.recipes.what_if import Wish, what_if
from rest_jax.rollout import store

CONFIG = """\
extends: {tiny}
agent: {{name: react, also: [cot, cot_reflexion], turns: 4, turn_tokens: 40, temperature: 1.0}}
pilot: {{demonstrations: 2, improve: {{steps: 1, rows: 2, length: 512, warmup: 0}}}}
generations:
  - grow: {{questions: 2, samples: 2}}
    improve: {{thresholds: [-1.0], per_question: null, steps: 1, rows: 2, length: 512, warmup: 0}}
evaluate: {{prompted: 1, pilot: 1, gate: 0, generations: 1, final: 2, floors: [], methods: [cot]}}
"""
METHODS = ("react", "cot", "cot_reflexion")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_config: Path) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "mixed.yaml").write_text(CONFIG.format(tiny=tiny_config))
    rest_jax.run(folder / "mixed.yaml", run_dir=folder / "run")
    return folder / "run"


def played(run: Path, stage: str) -> list[Trajectory]:
    found = {done.name.removeprefix("seed-0/"): done for done in finished_stages(run)}
    return store.read(found[stage].folder / "trajectories.parquet")


def says(trajectory: Trajectory, call: int = 0) -> str:
    return "".join(segment.text for segment in context_of(trajectory.calls, call))


def test_each_question_is_played_as_each_method_as_often(run: Path) -> None:
    demonstrated, grown = played(run, "demonstrations"), played(run, "gen-1/grow")
    assert Counter(one.agent for one in demonstrated) == dict.fromkeys(METHODS, 2)
    shares = Counter((one.question_id, one.agent) for one in grown)
    assert (len(shares), set(shares.values())) == (2 * 3, {2})
    assert len({one.id for one in grown}) == len(grown)
    assert [METHODS[one.sample % 3] for one in grown] == [one.agent for one in grown]


def test_every_transcript_says_which_method_it_is_of(run: Path) -> None:
    grown = played(run, "gen-1/grow")
    opened = [(one, call) for one in grown for call in one.calls if call.parent is None]
    assert any(call.step == "reflect" for _, call in opened)
    for one, call in opened:
        assert f"\nMethod: {one.agent}\n" in says(one, call.index)
    measured = played(run, "gen-1/as-cot/evaluate-select")
    assert all("\nMethod: cot\nThought:" in says(one) for one in measured)


def test_only_a_method_that_says_so_is_told_by_the_oracle(run: Path) -> None:
    told = {one.agent for one in played(run, "gen-1/grow") for call in one.tool_calls if call.tool == ORACLE}
    assert told <= {"cot_reflexion"}


def test_one_mixture_is_learned_and_what_was_stored_holds(run: Path) -> None:
    stages = {done.name.removeprefix("seed-0/"): done for done in finished_stages(run)}
    shown, grown = stages["demonstrations"].results, stages["gen-1/grow"].results
    assert shown["good"] >= 2 * 2
    mixture = shown["good"] + grown["trajectories"] - grown["masked"]
    assert len(stages["gen-1/improve-1"].inputs["mixture"]) == mixture
    assert verify(run).differences == ()
    (one, both) = what_if(run, Wish(samples=(1, 2)))
    assert (one.grown, both.grown) == (6, 12)


def test_a_model_of_several_methods_is_asked_as_any_of_them(run: Path, tmp_path: Path) -> None:
    for method in ("cot", "react"):
        out = tmp_path / f"{method}.json"
        asked = ["--task", "atlas", "--limit", "1", "--agent", method, "--json", str(out)]
        assert main(["eval", "--model", str(run), *asked]) == 0
        agent = json.loads(out.read_text())["inputs"]["agent"]
        assert (agent["name"], agent["also"]) == (method, ["cot", "cot_reflexion"])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("agent.also=[react_to_cot_sc]", r"no model is trained to be it"),
        ("agent.also=[coat]", r"no agent called 'coat'"),
        ("agent.also=[pot]", r"calls python"),
    ],
)
def test_what_cannot_be_learned_beside_is_refused_at_the_start(
    tmp_path: Path, tiny_config: Path, change: str, why: str
) -> None:
    (tmp_path / "mixed.yaml").write_text(CONFIG.format(tiny=tiny_config))
    with pytest.raises(UserError, match=why):
        rest_jax.run(tmp_path / "mixed.yaml", run_dir=tmp_path / "run", overrides=[change])
