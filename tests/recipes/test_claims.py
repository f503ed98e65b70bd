"""The controls by which the papers' claims are tested: what each learns from, and what it plays."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import rest_jax
from rest_jax.config.controls import Control
from rest_jax.config.limits import checked
from rest_jax.config.policies import EndpointSettings, PoliciesSettings
from rest_jax.config.settings import (
    AgentSettings,
    EvaluateSettings,
    GenerationSettings,
    GrowSettings,
    ImproveSettings,
    PilotSettings,
    RestConfig,
)
from rest_jax.core.effects import Candidate, Finish, Role, Status
from rest_jax.core.errors import UserError
from rest_jax.core.events import silent
from rest_jax.core.trajectory import Call, Trajectory
from rest_jax.evaluation.records import Record
from rest_jax.recipes.controls import MIXTURES, best_of
from rest_jax.recipes.mixture import Grown, first_samples, likeliest, thresholded
from rest_jax.recipes.plan import Lengths, majority_samples, plan
from rest_jax.recipes.rest import Finished, Generation, Loop, Reached
from rest_jax.recipes.summary import Measured
from rest_jax.recipes.verify import verify
from rest_jax.recipes.workbench import Player
from rest_jax.training.targets import retargeted
from tests.trajectories import trajectory as played


def alike(method: str, candidates: int | None) -> Lengths:
    """Trajectories of all methods take the same."""
    return Lengths(sampled=10, prefilled=30)


def said(sample: int, *turns: tuple[float, ...] | None, question: int = 0, answer: str | None = "a") -> Trajectory:
    """A trajectory whose turns have these log-probs; beside each stands a likelier candidate that was not chosen."""
    calls = tuple(
        Call(
            at, "act", 0, Role.ACTOR, (),
            (Candidate((1,), (0.0,), "", Finish.EOS), Candidate((1,) * len(turn or (1,)), turn, "", Finish.EOS)), 1,
        )
        for at, turn in enumerate(turns)
    )  # fmt: skip
    return played(question_id=f"q{question}", sample=sample, generation=1, answer=answer, calls=calls)


def record(trajectory: Trajectory, *, masked: bool = False) -> Record:
    status = Status.TOOL_FAILURE if masked else trajectory.status
    return Record(trajectory.question_id, trajectory.sample, 0, status.value, trajectory.answer, 0.0, 0.0,
                  well_formed=True, grounded=None, searches=1, model_tokens=10, masked=masked)  # fmt: skip


def test_the_mean_log_prob_is_per_token_over_all_turns_that_were_taken() -> None:
    assert said(0, (-1.0, -2.0), (-6.0,)).mean_logprob == pytest.approx(-3.0)
    judge = replace(said(0, (-9.0,)).calls[0], role=Role.JUDGE)
    assert replace(said(0, (-1.0,)), calls=(*said(0, (-1.0,)).calls, judge)).mean_logprob == -1.0
    assert said(0, (-1.0,), None).mean_logprob == float("-inf")


def test_the_likeliest_answered_and_are_not_masked() -> None:
    made = (said(0, (-3.0,)), said(1, (-0.1,), answer=None), said(2, (-0.2,)), said(3, (-1.0,)), said(4, (-2.0,)))
    grown = Grown(made, {"q0#0": 1.0, "q0#1": 0.0, "q0#2": None, "q0#3": 0.0, "q0#4": 0.0})
    assert [t.sample for t in likeliest(grown, grown, grown.trajectories[:2])] == [3, 4]
    assert [t.sample for t in likeliest(grown, grown, grown.trajectories)] == [0, 3, 4]


def test_only_what_finished_is_kept_where_the_settings_say_so() -> None:
    """Of two methods' samples too; without the setting a wrong answer and none are worth the same."""
    made = (said(0, (-1.0,)), said(1, (-1.0,), answer=None), said(2, (-1.0,)))
    grown = Grown(made, {"q0#0": 0.0, "q0#1": 0.0, "q0#2": None})
    for only_finished, samples in ((True, [0]), (False, [0, 1])):
        settings = ImproveSettings(thresholds=(-1.0,), only_finished=only_finished)
        assert [t.sample for t in thresholded(grown, settings, -1.0, silent)] == samples


def test_likely_is_what_was_played_whatever_a_judge_would_have_learned() -> None:
    first, second = said(0, (-1.0,)), said(1, (-2.0,))
    (call,) = first.calls
    first = replace(
        first, calls=(replace(call, candidates=(Candidate((1,), (-9.0,), "", Finish.EOS), *call.candidates[1:])),)
    )
    sampled = Grown((first, second), {"q0#0": 0.0, "q0#1": 0.0})
    judged = replace(sampled, trajectories=(retargeted(first, {0: 0}), second))
    assert likeliest(judged, sampled, judged.trajectories[:1]) == judged.trajectories[:1]


def test_the_first_samples_of_each_question_are_a_grow_of_their_own() -> None:
    made = tuple(said(sample, (-1.0,), question=question) for question in range(2) for sample in range(4))
    grown = Grown(made, {t.id: t.sample / 4 for t in made}, "told")
    assert [t.id for t in first_samples(grown, 2).trajectories] == ["q0#0", "q0#1", "q1#0", "q1#1"]
    assert first_samples(grown, 2).mean_reward == 0.125
    assert first_samples(grown, 4) == grown


def test_best_of_n_is_the_likeliest_answer_at_the_cost_of_all() -> None:
    made = [said(0, (-2.0,)), said(1, (-1.0,)), said(2, (-0.1,), answer=None), said(3, (-0.2,))]
    records = [record(made[0]), record(made[1]), record(made[2]), record(made[3], masked=True)]
    (best,) = best_of(made, records)
    assert (best.sample, best.searches, best.model_tokens) == (1, 4, 40)
    unanswered = [said(0, (-2.0,), answer=None), said(1, (-1.0,), answer=None)]
    assert [one.sample for one in best_of(unanswered, [record(t) for t in unanswered])] == [0]


def test_what_each_learns_from() -> None:
    """Generation 1 grew likely wrong answers and unlikely right ones, and its last threshold made its policy;
    generation 2 one right answer, and an almost right one, which passed the threshold that made its policy."""
    improve = ImproveSettings(thresholds=(0.1, 0.5), include_seed=False)
    config = RestConfig(generations=(GenerationSettings(improve=improve),) * 2)
    loop = Loop(config, 0, None, None)  # pyright: ignore[reportArgumentType]
    grown = tuple(
        Grown(
            tuple(said(sample, (logprob,), question=number) for sample, logprob in enumerate(logprobs)),
            {f"q{number}#{sample}": reward for sample, reward in enumerate(rewards)},
        )
        for number, (logprobs, rewards) in enumerate(
            [((-1.0, -9.0, -2.0), (0.0, 1.0, 0.0)), ((-9.0, -1.0, -2.0), (0.2, 1.0, 0.0))]
        )
    )
    player = Player(Path(), "")
    generations = tuple(
        Generation(one, one, Reached(player, made_by=made_by)) for one, made_by in zip(grown, (2, 1), strict=True)
    )
    finished = Finished((), Measured("gen 1", "report", (), "", 0.0), player, (said(9, (-1.0,)),), generations)

    def learned(control: str) -> list[list[str]]:
        return [[t.id for t in MIXTURES[control](loop, finished, number)] for number in (0, 1)]

    assert learned("more_gen_1") == [["q0#1"], ["q0#1"]]
    assert learned("low_perplexity") == [["q0#0"], ["q1#1", "q1#2"]]
    assert learned("data_1x") == [[], ["q1#0"]]
    assert learned("data_2x") == [["q0#1"], ["q1#0", "q1#1"]]


def test_what_they_cost_is_planned() -> None:
    def work(*controls: str) -> dict[str, int]:
        config = RestConfig(evaluate=EvaluateSettings(final=8, controls=controls))  # pyright: ignore[reportArgumentType]
        return {one.name: one.trajectories for one in plan(config, alike) if "control" in one.name}

    votes = 8 * majority_samples(RestConfig(evaluate=EvaluateSettings(final=8)))
    assert work("majority", "best_of") == {"control majority": votes}
    assert work("best_of", "single_sample") == {"control best_of": votes, "control single_sample": 8}
    assert work("data_1x", "low_perplexity") == {"control data_1x": 0, "control low_perplexity": 0}


def test_no_more_is_trained_than_reaches_a_row() -> None:
    """E goes on from generation 1's policy; where the last generation starts from the base model, and nothing is
    chosen, all before it would be thrown away."""

    def steps(control: Control, improve: ImproveSettings) -> float:
        evaluate = EvaluateSettings(controls=(control,))
        config = RestConfig(generations=(GenerationSettings(improve=improve),) * 3, evaluate=evaluate)
        trained = {one.name: one.trained_tokens for one in plan(config, alike)}
        return trained[f"control {control}"] / trained["improve 1"]

    assert [steps("gold", ImproveSettings()), steps("more_gen_1", ImproveSettings())] == [3, 2]
    assert steps("gold", ImproveSettings(start="base")) == 1
    assert steps("gold", ImproveSettings(start="base", select=2)) == 3


def test_the_majoritys_tokens_are_those_of_select_too() -> None:
    def samples(improve: ImproveSettings) -> int:
        generation = GenerationSettings(GrowSettings(questions=4, samples=1), improve)
        return majority_samples(RestConfig(generations=(generation,), evaluate=EvaluateSettings(final=2)))

    assert samples(ImproveSettings()) == 3
    assert samples(ImproveSettings(select=8)) == 11
    assert samples(ImproveSettings(select=8, rounds=2)) == 15


@pytest.mark.parametrize(
    ("control", "changed", "why"),
    [
        ("more_gen_1", {"generations": (GenerationSettings(),)}, "repeats the first of several generations"),
        ("single_sample", {}, "raise agent.candidates"),
        ("data_2x", {"generations": (GenerationSettings(GrowSettings(samples=2)),)}, "raise its grow.samples"),
        (
            "low_perplexity",
            {
                "policies": PoliciesSettings(EndpointSettings("http://127.0.0.1:9/v1", "m")),
                "generations": (GenerationSettings(GrowSettings(policy="teacher")),),
            },
            "the teacher answers in text",
        ),
        (
            "best_of",
            {
                "policies": PoliciesSettings(EndpointSettings("http://127.0.0.1:9/v1", "m")),
                "generations": (GenerationSettings(GrowSettings(policy="teacher")),),
            },
            "sampled here, not a teacher's",
        ),
        ("more_pilot", {"pilot": PilotSettings(demonstrations=0)}, "the pilot has none"),
    ],
)
def test_what_would_show_nothing_is_refused(control: str, changed: dict, why: str) -> None:
    config = RestConfig(evaluate=EvaluateSettings(controls=(control,)), **changed)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match=f"evaluate: control {control} .*{why}"):
        checked(config)


def test_candidates_make_a_single_sample_something_else() -> None:
    agent = AgentSettings(name="search_agent", candidates=4, temperature=0.5)
    checked(RestConfig(agent=agent, evaluate=EvaluateSettings(controls=("single_sample",))))


RUN = """\
extends: {base}
agent: {{name: search_agent, shots: 0, turns: 4, turn_tokens: 128, observation_chars: 160}}
tools: {{results: 3}}
engine: {{widths: [1024]}}
pilot: {{improve: {{length: 1024}}}}
generations:
  - &one
    grow: {{questions: 2, samples: 3}}
    improve: {{steps: 1, rows: 1, length: 1024, warmup: 0}}
  - *one
evaluate:
  split: select
  prompted: 2
  pilot: 2
  gate: 0
  generations: 2
  final: 2
  controls: [more_gen_1, low_perplexity, best_of, single_sample, data_1x, data_2x]
  floors: []
"""


@pytest.mark.slow
def test_a_run_with_them_all(tiny_config: Path, tmp_path: Path) -> None:
    """Of the search agent, so that there are candidates; nothing that its random model says can be read, so each
    mixture is the demonstrations alone."""
    run, path = tmp_path / "run", tmp_path / "claims.yaml"
    path.write_text(RUN.format(base=tiny_config))
    summary = rest_jax.run(path, run_dir=run, overrides=["agent.candidates=2", "agent.temperature=0.5"])
    controls = [
        "E more gen 1", "F low perplexity", "G best of N", "H single sample", "data 1x", "data 2x",
    ]  # fmt: skip
    rows = {row["name"]: row for row in summary["rows"]}
    assert list(rows) == ["prompted", "pilot", "gen 1", "gen 2", *controls]
    assert {entry["b"] for entry in summary["comparisons"]} == {"pilot", *controls}
    stages = run / "stages/seed-0"
    again = json.loads((stages / "control-more_gen_1/gen-2/improve-1/manifest.json").read_text())
    assert again["inputs"]["start"]["weights_digest"] == rows["gen 1"]["weights_digest"]
    assert not (stages / "control-more_gen_1/gen-1").exists()
    assert rows["data 1x"]["remark"] == "the Grows are of the loop that learned from all samples"
    assert rows["H single sample"]["weights_digest"] == rows["gen 2"]["weights_digest"]
    assert rows["H single sample"]["remark"] == "one candidate a step instead of 2"
    assert rows["G best of N"]["tokens_per_trajectory"] > rows["gen 2"]["tokens_per_trajectory"]
    steps = [
        json.loads(file.read_text())["results"]["losses"] for file in stages.glob("*/gen-2/improve-1/manifest.json")
    ]
    assert [len(losses) for losses in steps] == [1] * 4  # equal optimizer steps
    assert verify(run).differences == ()
