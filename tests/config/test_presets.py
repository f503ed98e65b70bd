"""Presets: what wins over what, and that they show."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from rest_jax.cli.main import main
from rest_jax.config.loader import load
from rest_jax.config.presets import FOLDER, presets
from rest_jax.config.schema import json_schema
from rest_jax.config.settings import ImproveSettings, RestConfig
from rest_jax.core.errors import UserError


@pytest.fixture
def read(tmp_path: Path):
    def config(text: str) -> RestConfig:
        (tmp_path / "c.yaml").write_text(text)
        return load(tmp_path / "c.yaml", RestConfig).value

    return config


def test_the_family_is_whole() -> None:
    assert presets() == ["raft", "rest", "rest_em", "rest_react", "star"]


@pytest.mark.parametrize("name", presets())
def test_a_preset_shows_in_the_settings_and_they_are_the_same_when_read_back(
    name: str, read, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value = read(f"preset: {name}\n")
    assert main(["config", "show", str(tmp_path / "c.yaml")]) == 0
    shown = capsys.readouterr().out
    assert "preset" not in shown, "what it sets stands there in its place"
    assert read(shown) == value != RestConfig()


@pytest.mark.parametrize("name", presets())
def test_a_preset_sets_nothing_that_is_no_setting(name: str) -> None:
    written = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    jsonschema.validate(written, json_schema(RestConfig))


def test_what_a_file_says_itself_wins_and_the_preset_over_what_it_extends(read, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "name: base\ngenerations:\n- improve: {thresholds: [0.1], per_question: 3, steps: 9}\n- grow: {samples: 7}\n"
    )
    config = read("extends: base.yaml\npreset: rest_em\ntask: {reward: default}\n")
    first, second = config.generations
    assert (config.name, config.task.reward, config.pilot.demonstrations) == ("base", "default", 0)
    assert (first.improve.thresholds, first.improve.per_question, first.improve.steps) == ((0.5,), 10, 9)
    assert (second.grow.samples, second.improve.steps) == (32, ImproveSettings().steps)


def test_generations_are_as_many_as_the_file_lists_each_with_the_preset_s_entry_of_its_place(
    read, tmp_path: Path
) -> None:
    (tmp_path / "base.yaml").write_text("generations: [{improve: {steps: 9}}]\n")
    config = read("extends: base.yaml\npreset: rest_react\ngenerations: [{}, {grow: {questions: 5}}, {}]\n")
    assert [one.grow.samples for one in config.generations] == [1, 4, 4]
    assert [one.grow.questions for one in config.generations] == [100, 5, 100]
    assert {one.improve.start for one in config.generations} == {"base"}
    assert {one.improve.steps for one in config.generations} == {ImproveSettings().steps}, "the list is replaced whole"


def test_overrides_win_over_a_preset(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("preset: star\n")
    changed = load(tmp_path / "c.yaml", RestConfig, ["generations.1.grow.samples=3"]).value
    assert [one.grow.samples for one in changed.generations] == [1, 3, 1]


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("preset: rest_me", "c.yaml:1:9: preset: there is no preset 'rest_me'; did you mean 'rest_em'?"),
        ("preset: [rest]", "c.yaml:1:9: preset: there is no preset ''; known: raft, rest, rest_em, rest_react, star"),
        ("preset: rest\ngenerations: [7]", "c.yaml:2:15: generations.0: expected settings as `key: value`, got '7'"),
        (
            "generations: [{improve: {rounds: 2}}]",
            "c.yaml:1:34: generations.0.improve.rounds: 2 go on while the reward on select rises; set select, or leave "
            "rounds out",
        ),
        (
            "generations: [{improve: {rounds: 2, select: 5, start: base}}]",
            "c.yaml:1:34: generations.0.improve.rounds: 2 from the base model would learn the same again; leave rounds "
            "out",
        ),
        (
            "preset: star\nevaluate: {controls: [more_pilot]}",
            "c.yaml:2:11: evaluate: control more_pilot learns from demonstrations, and the pilot has none; leave one "
            "of them out",
        ),
    ],
)
def test_what_will_not_do_is_told_where_it_stands(read, tmp_path: Path, written: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        read(written)
    assert str(caught.value).removeprefix(f"{tmp_path}/") == told
