"""Each preset keeps and learns what its paper says, on examples small enough to be worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from rest_jax.config.improve import ImproveSettings
from rest_jax.config.loader import load
from rest_jax.config.settings import RestConfig
from rest_jax.core.effects import Status
from rest_jax.core.trajectory import Question, Trajectory
from rest_jax.tasks.metrics import answer_metric
from rest_jax.tasks.rewards import correct_reward
from rest_jax.tasks.task import Task
from rest_jax.training.mixture import keep

REWARDS = {"a#0": 0.70, "a#1": 0.71, "a#2": 0.90, "b#0": 0.96, "b#1": 1.0, "b#2": None, "c#0": 0.10, "c#1": 0.30}
"""Sorted and without the masked one: .10 .30 .70 .71 .90 .96 1.0, the mean is 4.67 / 7 = 0.667."""


@pytest.fixture
def preset(tmp_path: Path):
    def config(name: str) -> RestConfig:
        (tmp_path / "c.yaml").write_text(f"preset: {name}\n")
        return load(tmp_path / "c.yaml", RestConfig).value

    return config


def kept(settings: ImproveSettings, threshold: float, rewards=REWARDS) -> list[str]:
    return keep(rewards, {id: id[0] for id in rewards}, settings, threshold)


def test_rest_algorithm_1_keeps_what_is_strictly_above_each_rising_threshold(preset) -> None:
    config = preset("rest")
    improve = config.generations[0].improve
    assert [kept(improve, threshold) for threshold in improve.thresholds] == [
        ["a#1", "a#2", "b#0", "b#1"],
        ["a#2", "b#0", "b#1"],
        ["b#0", "b#1"],
        ["b#0", "b#1"],
        ["b#1"],
    ]
    assert [one.improve.start for one in config.generations] == ["previous", "previous"]
    assert improve.include_seed, "D_g is united with the data that the first policy was trained on"
    assert (improve.select > 0, improve.rounds > 1) == (True, True), "while reward improves on D_eval"


def test_rest_section_3_learns_more_slowly_at_each_further_threshold(preset) -> None:
    improve = preset("rest").generations[0].improve
    rates = [improve.at(step).learning_rate for step in (1, 2, 3)]
    assert rates == pytest.approx([improve.learning_rate, improve.learning_rate / 2, improve.learning_rate / 4])
    assert ImproveSettings().at(5) == ImproveSettings(), "unless it is asked for, all steps are alike"


def test_rest_section_4_grows_at_temperature_0_8(preset) -> None:
    assert {one.grow.temperature for one in preset("rest").generations} == {0.8}


def test_rest_appendix_a7_percentile_of_each_source() -> None:
    settings = ImproveSettings(filter="question_percentile", per_question=None)
    # a: .70 .71 .90, median .71; b: .96 1.0, median .98; c: .10 .30, median .20.
    assert kept(settings, 0.5) == ["a#2", "b#1", "c#1"]
    assert kept(settings, 0.0) == ["a#1", "a#2", "b#1", "c#1"]
    assert kept(settings, 0.0, {"a#0": 0.4, "a#1": 0.4}) == [], "what is equal stands above nothing"


def test_rest_appendix_a7_interpolation_between_mean_and_maximum_of_each_source() -> None:
    settings = ImproveSettings(filter="interpolated", per_question=None)
    rewards = {"a#0": 0.0, "a#1": 0.5, "a#2": 0.6, "a#3": 0.9, "c#0": 0.1, "c#1": 0.3}
    # a: mean .5, maximum .9; gamma .25: .25 × .9 + .75 × .5 = .6. c: mean .2, maximum .3: .225.
    assert kept(settings, 0.0, rewards) == ["a#2", "a#3", "c#1"]
    assert kept(settings, 0.26, rewards) == ["a#3", "c#1"]
    assert kept(settings, 0.24, rewards) == ["a#2", "a#3", "c#1"]


def test_raft_by_rest_section_5_keeps_what_is_above_one_quantile_of_all_rewards(preset) -> None:
    config = preset("raft")
    improve = config.generations[0].improve
    assert len(improve.thresholds) == 1, "one Improve for each Grow"
    # Seven rewards: the quantile .75 stands at place .75 × 6 = 4.5, between .90 and .96.
    assert kept(improve, improve.thresholds[0]) == ["b#0", "b#1"]
    halved = {id: reward and reward / 2 for id, reward in REWARDS.items()}
    assert kept(improve, improve.thresholds[0], halved) == ["b#0", "b#1"], "whatever the rewards' scale"
    assert (improve.start, improve.include_seed) == ("previous", False)


QUESTION = Question("q", "Who?", "Kel Dorim")


def answered(answer: str | None, status: Status = Status.FINISHED) -> Trajectory:
    return Trajectory("q", "Who?", 0, 0, 1, "react", "t", "train", status, answer, "", (), (), "t", "w")


@pytest.mark.parametrize(
    ("trajectory", "reward"),
    [
        (answered("kel dorim."), 1.0),
        (answered("Kel"), 0.0),
        (answered(None, Status.STEP_LIMIT), 0.0),
        (answered(None, Status.TOOL_FAILURE), None),
    ],
)
def test_rest_em_section_3_rewards_are_0_or_1(preset, trajectory: Trajectory, reward: float | None) -> None:
    assert preset("rest_em").task.reward == preset("star").task.reward == "correct"
    assert correct_reward(trajectory, QUESTION, answer_metric) == reward
    task = Task("toy", None, {"train": (QUESTION,)})
    assert task.reward("correct")(trajectory, QUESTION) == reward


def test_rest_em_section_3_keeps_at_most_ten_correct_samples_of_a_question(preset) -> None:
    config = preset("rest_em")
    improve = config.generations[0].improve
    easy = {f"e#{sample}": 1.0 for sample in range(32)} | {"e#3": 0.0}
    hard = {f"h#{sample}": float(sample == 30) for sample in range(32)}
    (threshold,) = improve.thresholds
    chosen = kept(improve, threshold, easy | hard)
    assert chosen == [f"e#{sample}" for sample in range(11) if sample != 3] + ["h#30"]


def test_rest_em_section_3_starts_each_iteration_from_the_base_model_without_other_data(preset) -> None:
    config = preset("rest_em")
    assert config.pilot.demonstrations == 0, "the prompted base model grows first"
    improves = {(one.improve.start, one.improve.include_seed, one.improve.prompt) for one in config.generations}
    assert improves == {("base", False, "same")}
    grow = config.generations[0].grow
    assert (grow.samples, grow.temperature, grow.top_k) == (32, 0.7, 40)
    assert len(config.generations) == 3


def test_star_section_3_1_learns_greedy_correct_samples_from_the_original_model(preset) -> None:
    config = preset("star")
    assert {(one.grow.samples, one.grow.temperature) for one in config.generations} == {(1, 0.0)}
    assert {(one.improve.start, one.improve.include_seed) for one in config.generations} == {("base", False)}
    improve = config.generations[0].improve
    assert kept(improve, improve.thresholds[0], {"a#0": 1.0, "b#0": 0.0, "c#0": None}) == ["a#0"]
    assert config.pilot.demonstrations == 0


def test_rest_meets_react_section_3_keeps_wrong_trajectories_too(preset) -> None:
    config = preset("rest_react")
    improve = config.generations[0].improve
    assert kept(improve, improve.thresholds[0], {"a#0": 0.0, "a#1": None, "b#0": 1.0}) == ["a#0", "b#0"]
    assert improve.only_finished, "completed trajectories are learned"
    assert not improve.include_seed, "a generation's mixture replaces the one before"


def test_rest_meets_react_section_3_samples_steps_and_trajectories_as_said(preset) -> None:
    config = preset("rest_react")
    assert (config.agent.candidates, config.agent.temperature, config.agent.turns) == (4, 0.5, 10)
    assert config.tools.results == 3
    assert [one.grow.samples for one in config.generations] == [1, 4]
    assert config.pilot.demonstrations == 0, "the prompted model grows the first generation"
