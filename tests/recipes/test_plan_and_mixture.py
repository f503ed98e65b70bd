"""What a run will cost, and what is trained on: pure functions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rest_jax.config.settings import (
    EvaluateSettings,
    GenerationSettings,
    GrowSettings,
    ImproveSettings,
    ModelSettings,
    PilotSettings,
    RestConfig,
)
from rest_jax.core.effects import ORACLE, RIGHT, Candidate, Finish, Role, Status, ToolErrorKind, ToolFault
from rest_jax.core.errors import UserError
from rest_jax.core.events import Event, silent
from rest_jax.core.trajectory import Call, Question, ToolCall, Trajectory
from rest_jax.core.transcript import Segment, Source
from rest_jax.evaluation.records import OF_ATTEMPTS, Record
from rest_jax.recipes.controls import majority
from rest_jax.recipes.floors import most_frequent
from rest_jax.recipes.mixture import (
    Grown,
    first_samples,
    is_sound,
    kept_fraction,
    nothing_shown,
    random_finished,
    refuse_leaks,
    rewarded,
    seeded,
    thresholded,
)
from rest_jax.recipes.plan import ROWS_RUN_EMPTY, Lengths, Planned, Rates, majority_samples, plan, seconds, total
from rest_jax.recipes.preflight import expected
from rest_jax.recipes.seeds import derived_seed
from rest_jax.tasks.metrics import score_answer
from rest_jax.tasks.numbers import number_voice
from rest_jax.tasks.splits import Split
from rest_jax.tasks.task import Task
from tests.trajectories import trajectory as played


def alike(method: str, candidates: int | None) -> Lengths:
    """Trajectories of all methods take the same."""
    return Lengths(sampled=10, prefilled=30)


def trajectory(question: int, sample: int, answer: str | None) -> Trajectory:
    return played(question_id=f"q{question}", sample=sample, generation=1, answer=answer)


def test_plan_counts_every_seed_and_threshold() -> None:
    config = RestConfig(
        seeds=(0, 1),
        generations=(
            GenerationSettings(
                GrowSettings(questions=10, samples=4),
                ImproveSettings(thresholds=(0.1, 0.5), steps=3, rows=2, length=64),
            ),
        ),
        pilot=PilotSettings(demonstrations=9),
        evaluate=EvaluateSettings(
            prompted=5,
            pilot=6,
            gate=4,
            generations=7,
            final=8,
            controls=("more_pilot", "majority", "gold"),
            floors=("closed_book", "most_frequent"),
        ),
    )
    work = {planned.name: planned for planned in plan(config, alike)}
    assert work["grow 1"] == Planned("grow 1", 80, sampled_tokens=800, prefilled_tokens=2400, rollouts=2)
    assert work["demonstrations"] == Planned("demonstrations", trajectories=18)
    assert work["gold demonstrations"].trajectories == 20
    assert work["pilot gate"].trajectories == 8
    assert work["floor closed_book"].trajectories == 8
    assert "floor most_frequent" not in work
    assert work["improve 1"].trained_tokens == 2 * 2 * 3 * 2 * 64
    assert work["evaluate generation 1"].trajectories == 16
    assert work["control more_pilot"].trained_tokens == work["improve 1"].trained_tokens
    assert majority_samples(config) == 6
    assert work["control majority"].trajectories == 2 * 6 * 8
    assert total(list(work.values())).trajectories == sum(p.trajectories for p in work.values())
    rates = Rates(sampled=10, prefilled=20, trained=5, rows=8)
    rolled, trained = Planned("x", 4, 100, 60, rollouts=2), Planned("y", trained_tokens=50)
    assert seconds([trained], rates) == 10
    assert seconds([rolled, trained], rates) == (10 + 3) * (1 + ROWS_RUN_EMPTY * 8 * 2 / 4) + 10


def test_what_a_teacher_samples_costs_no_tokens_here() -> None:
    generation = GenerationSettings(GrowSettings(questions=10, samples=4, policy="teacher"))
    work = plan(RestConfig(generations=(generation,)), alike)
    assert Planned("grow 1 (teacher)", 40) in work


def test_plan_counts_policies_as_other_methods_play_them() -> None:
    config = RestConfig(
        seeds=(0, 1), evaluate=EvaluateSettings(prompted=5, pilot=10, generations=20, final=30, methods=("rise",))
    )
    work = plan(config, lambda method, _: Lengths(50, 90) if method == "rise" else Lengths(10, 30))
    as_rise = {one.name: (one.sampled_tokens, one.prefilled_tokens) for one in work if one.name.endswith("as rise")}
    assert as_rise == {
        "prompted as rise": (5 * 50, 5 * 90),
        "pilot as rise": (2 * 10 * 50, 2 * 10 * 90),
        "generation 1 as rise": (2 * 20 * 50, 2 * 20 * 90),
        "generation 2 as rise": (2 * 30 * 50, 2 * 30 * 90),
    }


def test_each_student_is_one_improve_step_and_one_evaluation_a_seed() -> None:
    improve = ImproveSettings(thresholds=(0.1, 0.5), steps=3, rows=2, length=64)
    config = RestConfig(
        seeds=(0, 1),
        generations=(GenerationSettings(improve=improve),),
        evaluate=EvaluateSettings(prompted=5, final=8),
        students=(ModelSettings("some/folder"),),
    )
    work = {planned.name: planned for planned in plan(config, alike)}
    assert work["student folder"].trained_tokens == 2 * 3 * 2 * 64
    assert work["evaluate student folder"].trajectories == 16
    assert work["evaluate student folder prompted"].trajectories == 5


def test_thresholded_is_strict_and_keeps_the_order() -> None:
    grown = Grown(tuple(trajectory(0, s, "a") for s in range(4)), {"q0#0": 0.5, "q0#1": 1.0, "q0#2": None, "q0#3": 0.9})
    events: list[Event] = []
    kept = thresholded(grown, ImproveSettings(per_question=None), 0.5, events.append)
    assert [t.id for t in kept] == ["q0#1", "q0#3"]
    assert "kept 2 of 4" in events[-1].data["text"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"question": "who FOUNDED the home of Kel"}, "asks"),
        ({"tool_calls": (ToolCall(0, "search", {"query": "x"}, "", data={"results": [{"title": "Vell"}]}),)}, "shows"),
    ],
)
def test_a_mixture_with_a_held_out_question_or_its_page_is_not_learnt(change: dict, told: str) -> None:
    report = Question("r", "Who founded the home of Kel?", "Orr", {"titles": ["Kel", "Vell"]})
    task = Task("toy", None, {Split.REPORT: (report,)})
    clean = [trajectory(0, sample, "Orr") for sample in range(3)]
    refuse_leaks(clean, task)
    with pytest.raises(UserError, match=rf"trajectory q9#0 of atlas: it {told} .*that toy holds out"):
        refuse_leaks([*clean, replace(trajectory(9, 0, "Orr"), **change)], task)


def test_random_samples_answered_and_depend_on_their_seed() -> None:
    answered = [trajectory(q, 0, "a") for q in range(20)]
    unanswered = [trajectory(q, 1, None) for q in range(20)]
    malformed = [replace(trajectory(q, 2, None), status=Status.MALFORMED) for q in range(20)]
    rewards = {t.id: 0.0 for t in (*answered, *unanswered, *malformed)} | {"q0#0": None}
    grown = Grown((*answered, *unanswered, *malformed), rewards)
    first = random_finished(grown, grown.trajectories[:10], seed=1)
    assert len(first) == 10
    assert first == random_finished(grown, grown.trajectories[:10], seed=1)
    assert first != random_finished(grown, grown.trajectories[:10], seed=2)
    every = random_finished(grown, grown.trajectories, seed=1)
    assert every == tuple(answered[1:]), "neither what did not answer nor what is masked"


def of_two_methods() -> Grown:
    """Of one question, alternately, two samples as ReAct (0.6, 0.7) and two as a chain (0.9, 0.8)."""
    made = tuple(replace(trajectory(0, s, "a"), agent=("react", "cot")[s % 2]) for s in range(4))
    return Grown(made, {"q0#0": 0.6, "q0#1": 0.9, "q0#2": 0.7, "q0#3": 0.8})


def test_methods_are_cut_off_and_drawn_apart() -> None:
    grown = of_two_methods()
    kept = thresholded(grown, ImproveSettings(per_question=1), 0.5, silent)
    assert [(t.agent, t.sample) for t in kept] == [("cot", 1), ("react", 2)]
    best = ImproveSettings(filter="interpolated", per_question=None, thresholds=(0.9,))
    assert [t.sample for t in thresholded(grown, best, 0.9, silent)] == [1, 2]
    for seed in range(9):
        assert sorted(t.agent for t in random_finished(grown, kept, seed)) == ["cot", "react"]
    assert [t.sample for t in first_samples(grown, 1).trajectories] == [0, 1]


def test_a_preflight_expects_what_each_questions_cut_off_leaves() -> None:
    """Of two samples as each method one passes 0.65 as ReAct and two as a chain: of ten samples five and ten would."""
    grow = GrowSettings(questions=1, samples=10)
    for most, kept in ((None, 15.0), (8, 13.0), (4, 8.0)):
        assert expected(of_two_methods(), ImproveSettings(per_question=most), 0.65, grow, samples=2) == kept


def test_the_demonstrations_come_first_unless_they_are_left_out() -> None:
    shown, chosen = [trajectory(0, 0, "a")], [trajectory(1, 0, "b")]
    assert seeded(chosen, shown, ImproveSettings()) == [*shown, *chosen]
    assert seeded(chosen, shown, ImproveSettings(include_seed=False)) == chosen


def voted(sample: int, answer: str | None, *, masked: bool = False) -> Record:
    return Record(
        question_id="q0",
        sample=sample,
        seed=0,
        status=Status.TOOL_FAILURE if masked else Status.FINISHED,
        answer=answer,
        em=0.0,
        f1=0.0,
        well_formed=not masked,
        grounded=0.0,
        searches=sample + 1,
        model_tokens=10,
        masked=masked,
    )


@pytest.mark.parametrize(
    ("answers", "winner"),
    [(["b", "The A.", "a"], 1), (["b", "a"], 0), ([None, None, "c"], 2), ([None, None], 0)],
)
def test_majority_counts_normalised_answers_and_breaks_ties_by_the_lowest_sample(
    answers: list[str | None], winner: int
) -> None:
    samples = [voted(s, answer) for s, answer in enumerate(answers)]
    assert [record.sample for record in majority(samples[::-1])] == [winner]


def test_a_majority_counts_by_the_tasks_own_voice() -> None:
    samples = [voted(s, answer) for s, answer in enumerate(["9", "$2.50", "25", "2.5", "25"])]
    assert [record.sample for record in majority(samples, number_voice)] == [1]
    assert [record.sample for record in majority(samples)] == [2], "by words 2.5 is 25"


def test_a_majority_costs_what_all_its_samples_cost() -> None:
    (won,) = majority([voted(0, "a"), voted(1, "b"), voted(2, "b")])
    assert (won.sample, won.searches, won.model_tokens) == (1, 6, 30)


def test_a_majority_of_samples_tells_nothing_of_attempts() -> None:
    tried = [replace(voted(s, "a"), trials=2, calls=3, em_first=1.0, em_any=1.0) for s in range(2)]
    assert [[getattr(won, name) for name in OF_ATTEMPTS] for won in majority(tried)] == [[None] * 5]


def test_a_majority_without_an_answer_counts_unless_all_of_it_is_masked() -> None:
    assert [r.sample for r in majority([voted(0, None, masked=True), voted(1, None)])] == [1]
    assert [r.masked for r in majority([voted(0, None, masked=True)])] == [True]


def test_the_kept_fraction_knows_filter_and_cut_off() -> None:
    grown = Grown(
        tuple(trajectory(q, s, "a") for q in range(2) for s in range(2)),
        {"q0#0": 0.9, "q0#1": 1.0, "q1#0": 0.2, "q1#1": None},
    )
    assert kept_fraction(grown, ImproveSettings(per_question=None), 0.5) == 2 / 4
    assert kept_fraction(grown, ImproveSettings(per_question=1), 0.5) == 1 / 4
    assert kept_fraction(grown, ImproveSettings(per_question=None, filter="percentile"), 0.5) == 1 / 4
    assert kept_fraction(Grown((), {}), ImproveSettings(), 0.5) == 0


def test_most_frequent_answer_is_trains() -> None:
    train = [Question(str(i), "?", answer) for i, answer in enumerate(["x", "y", "y"])]
    asked = [Question("r", "?", "y"), Question("s", "?", "no")]
    records = most_frequent(train, asked, lambda answer, question: score_answer(answer, question.answer))
    assert [(r.answer, r.em, r.grounded) for r in records] == [("y", 1.0, 0.0), ("y", 0.0, None)]


def test_derived_seeds_differ_by_name() -> None:
    assert len({derived_seed(0), derived_seed(1), derived_seed(0, "pilot"), derived_seed(0, "gen", 1)}) == 4
    assert 0 <= derived_seed(5, "x") < 2**31


def replayed(answer: str, content: str, *titles: str, fault: ToolFault | None = None) -> Trajectory:
    """A demonstration that searched once, was shown `content`, and answered."""
    said = (Candidate((1,), None, "turn", Finish.STOP),)
    calls = (
        Call(0, "act", 0, Role.ACTOR, (), said),
        Call(1, "act", 0, Role.ACTOR, (Segment(Source.TOOL, f" {content}", (2,)),), said, parent=0),
    )
    found = {"results": [{"title": title} for title in titles]}
    return replace(
        trajectory(0, 0, answer), calls=calls, tool_calls=(ToolCall(0, "search", {}, content, fault, data=found),)
    )


@pytest.mark.parametrize(
    ("demonstration", "sound"),
    [
        (replayed("Orr", "Vell: founded by Orr.", "Vell"), True),
        (replayed("Orr", "Vell: founded by Sarn.", "Vell"), False),
        (replayed("Orr", "Could not find Orr. Similar: []."), False),
        (replayed("Orr", "", fault=ToolFault(ToolErrorKind.BAD_ARGUMENTS, "Orr")), False),
        (replayed("yes", "Vell: a town.", "Vell"), True),
        (replayed("yes", "Could not find Vell. Similar: []."), False),
        (replace(trajectory(0, 0, "Orr"), tool_calls=()), False),
        (replace(trajectory(0, 0, "Orr"), tool_calls=(ToolCall(0, ORACLE, {"answer": "Orr"}, RIGHT),)), True),
    ],
)
def test_a_demonstration_must_read_its_answer(demonstration: Trajectory, sound: bool) -> None:
    assert is_sound(demonstration) is sound


@pytest.mark.parametrize(
    ("ended", "why"),
    [
        (
            [Status.TOKEN_LIMIT, Status.FINISHED, Status.TOKEN_LIMIT],
            "(token_limit 2, finished 1); their turns are longer",
        ),
        ([Status.STEP_LIMIT], "(step_limit 1); they take more turns than agent.turns allows, raise it"),
        ([Status.TOOL_FAILURE], "(tool_failure 1); the adapter failed them, tools.log says how"),
        (
            [Status.FINISHED, Status.MALFORMED],
            "(finished 1, malformed 1); see that the adapter serves the task's corpus",
        ),
    ],
)
def test_demonstrations_that_found_nothing_say_how_they_ended(ended: list[Status], why: str) -> None:
    made = tuple(replace(trajectory(0, place, None), status=status) for place, status in enumerate(ended))
    assert f"none of the {len(ended)} demonstrations, as react, found its answer {why}" in nothing_shown(
        Grown(made, {}), "react"
    )


def test_nothing_learns_from_a_trajectory_that_saw_a_held_out_page() -> None:
    question = Question("q0", "?", "Orr")
    held_out = Question("r", "?", "Orr", {"titles": ["Held Out"]})
    task = Task("t", Path("corpus.jsonl"), {Split.TRAIN: (question,), Split.REPORT: (held_out,)})
    grown = [
        replayed("Orr", "Vell: founded by Orr.", "Vell"),
        replace(replayed("Orr", "Held Out: founded by Orr.", "Vell", "Held Out"), sample=1),
    ]
    events: list[Event] = []
    rewards = rewarded(grown, [question], task, "default", events.append)
    assert rewards.rewards == {"q0#0": 1.0, "q0#1": None}
    assert [t.id for t in thresholded(rewards, ImproveSettings(), 0.5, silent)] == ["q0#0"]
    assert [t.id for t in random_finished(rewards, rewards.trajectories, seed=0)] == ["q0#0"]
    assert [event.data["text"] for event in events] == [
        "1 of 2 trajectories saw a held-out page: nothing learns from them"
    ]


@pytest.mark.parametrize("results", [["a"], None, [{"title": ["Held Out"]}], [{}]])
def test_a_tool_may_find_anything(results: Any) -> None:
    question = Question("q0", "?", "Orr")
    task = Task("t", Path("corpus.jsonl"), {Split.TRAIN: (question,)})
    seen = replayed("Orr", "Vell: founded by Orr.", "Vell")
    odd = replace(seen, tool_calls=tuple(replace(call, data={"results": results}) for call in seen.tool_calls))
    assert rewarded([odd], [question], task, "default", silent).rewards == {"q0#0": 1.0}


def test_the_plan_counts_the_most_that_select_may_ask_for() -> None:
    improve = ImproveSettings(thresholds=(0.1, 0.5), steps=3, rows=2, length=64, select=7, rounds=2)
    config = RestConfig(
        generations=(GenerationSettings(improve=improve),),
        pilot=PilotSettings(demonstrations=0),
        evaluate=EvaluateSettings(controls=("gold",)),
    )
    work = plan(config, alike)
    planned = {one.name: one for one in work}
    assert planned["improve 1"].trained_tokens == 2 * 2 * 3 * 2 * 64
    assert planned["select 1"].trajectories == (1 + 2 * 2) * 7
    assert [one.name for one in work].count("select 1") == 2, "the loop's, and its control's"
    assert not {"pilot", "demonstrations"} & planned.keys()
