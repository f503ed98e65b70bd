"""ReAct's baselines and the methods that try several times, every branch of each, against pages that were read by a
person; and what can be made of such trajectories."""

import math
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import toy_debate
from baselines import (
    BROKEN,
    DOOR,
    GUESS,
    HINT,
    KIND,
    MOVES,
    PAGES,
    QUESTION,
    SARN,
    SCRIPTS,
    SQUARE,
    THOUGHT,
    TWICE,
    asked,
    make,
    page,
    path_of,
    play,
    scripted_moves,
    write_tools,
)
from rollout_world import ByteCodec

from rest_jax.agents import registry
from rest_jax.agents.attempts import attempts
from rest_jax.agents.prompt import FENCE
from rest_jax.agents.registry import agent
from rest_jax.agents.replay import replay, replayed
from rest_jax.core.effects import ORACLE, RIGHT, WRONG, Role, Sampling, Status
from rest_jax.core.errors import UserError
from rest_jax.core.trajectory import Question
from rest_jax.evaluation.moves import moved, moves
from rest_jax.evaluation.records import OF_ATTEMPTS, judge
from rest_jax.evaluation.table import row
from rest_jax.policies.scripted import ScriptedPolicy
from rest_jax.rollout import store
from rest_jax.rollout.episode import Job
from rest_jax.rollout.no_tools import NoTools
from rest_jax.rollout.oracle import WithOracle
from rest_jax.rollout.runner import rollout
from rest_jax.tasks.metrics import answer_metric
from rest_jax.tasks.numbers import number_metric, number_voice
from rest_jax.tools.client import ToolClient
from rest_jax.tools.process import adapter
from rest_jax.training.examples import examples_of


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    folder = tmp_path_factory.mktemp("baselines")
    settings = write_tools(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)  # the adapter inherits our path
        yield from opened(folder, settings)


def opened(folder, settings):
    with adapter(settings, None, log=folder / "log") as (url, token), ToolClient(url, settings, token) as client:
        client.check()
        yield client


@pytest.mark.parametrize("branch", SCRIPTS)
def test_a_baseline_goes_as_its_page_says(branch, tools):
    trajectory = play(tools, branch)
    assert page(trajectory) == path_of(branch).read_text(encoding="utf-8")
    again, _ = replay(make(branch.split("/")[0]), replayed(trajectory))
    assert (again.status, again.answer, again.why) == (trajectory.status, trajectory.answer, trajectory.why)
    method = agent(trajectory.agent)
    assert {call.tool for call in trajectory.tool_calls} <= {*method.tools, *([ORACLE] if method.oracle else [])}


def test_every_page_is_some_branchs():
    assert set(PAGES.glob("*.txt")) == {path_of(branch) for branch in SCRIPTS}


def test_the_ways_that_methods_go_are_those_of_their_pages(tools):
    assert scripted_moves([play(tools, branch) for branch in SCRIPTS]) == MOVES.read_text(encoding="utf-8")


def test_a_trajectory_moves_from_step_to_step(tools):
    assert moves(play(tools, "reflexion/learned")) == (
        "question → act",
        "act → search",
        "search → act",
        "act → oracle: wrong",
        "oracle: wrong → reflect",
        "reflect → act",
        "act → search",
        "search → act",
        "act → oracle: right",
        "oracle: right → finished",
    )
    assert moves(play(tools, "pot_critic/error_is_shown"))[:3] == (
        "question → write without an answer",
        "write without an answer → python: failed",
        "python: failed → criticise",
    )
    both = [play(tools, "cot/answered"), play(tools, "cot/without_an_answer"), play(tools, "cot/answered")]
    assert moved(both) == {
        "question → think": 2,
        "question → think without an answer": 1,
        "think without an answer → malformed": 1,
        "think → finished": 2,
    }


def test_a_gold_answer_never_reaches_an_agent_that_is_told_whether_it_is_right(tools):
    """One bit comes back; nothing that the model is shown or the tools are asked holds the gold answer."""
    question = Question("q", QUESTION.text, "Zanzibar", {}, ("Unguja",))
    for branch in ("reflexion/five_trials", "resample/never_right", "critic_oracle/never_right"):
        made = play(tools, branch, question)
        asked = [call for call in made.tool_calls if call.tool == ORACLE]
        assert asked
        assert {call.content for call in asked} == {WRONG}
        assert "Zanzibar" not in repr(made)
        assert "Unguja" not in repr(made)


def test_the_oracle_goes_by_the_metric_and_by_all_gold_answers(tools):
    for gold, alternatives, right in (("the Vell!", (), True), ("Sarn", ("VELL",), True), ("Vell or so", (), False)):
        made = play(tools, "critic_oracle/never_right", Question("q", QUESTION.text, gold, {}, alternatives))
        assert made.tool_calls[0].content == (RIGHT if right else WRONG)


def test_who_has_no_gold_answer_has_no_oracle():
    job = Job(Question("q7", "Who?", ""), 0, 0, 0, "toy", "report", "reflexion")
    with pytest.raises(UserError, match=r"agent 'reflexion': .* question q7 has no gold answer; take an agent"):
        WithOracle(NoTools(), [job], answer_metric)


def test_the_device_does_not_wait_for_a_metric_that_runs_programs():
    begun, go_on = threading.Event(), threading.Event()

    def slowly(answer, question):
        begun.set()
        assert go_on.wait(60)
        return answer_metric(answer, question)

    job = Job(QUESTION, 0, 0, 0, "toy", "report", "reflexion")
    oracle = WithOracle(NoTools(), [job], slowly, slow=True)
    oracle.submit(7, ORACLE, {"answer": "Sarn"}, job.key)
    assert begun.wait(60)
    oracle.submit(8, "search", {"query": "Vell"}, job.key)
    ((first, reply),) = oracle.poll(60.0)
    assert (first, reply.fault is None) == (8, False)
    assert oracle.poll(0.0) == []
    go_on.set()
    arrived = []
    while not arrived:
        arrived = oracle.poll(1.0)
    assert [(id, reply.content) for id, reply in arrived] == [(7, RIGHT)]


def test_who_does_not_ask_by_its_method_is_no_agent_of_the_oracle():
    """Beside one that does, in one rollout: whose jobs it was not given, it answers as a tool that is not there."""
    asks = Job(QUESTION, 0, 0, 0, "toy", "report", "reflexion")
    oracle = WithOracle(NoTools(), [asks], answer_metric)
    for id, episode in enumerate((asks.key, replace(asks, sample=1).key)):
        oracle.submit(id, ORACLE, {"answer": "Sarn"}, episode)
    (_, told), (_, refused) = oracle.poll(0.0)
    assert (told.content, refused.content, refused.fault is None) == (RIGHT, "", False)


def test_a_method_that_does_not_say_that_it_asks_the_oracle_is_not_answered(tools):
    job = Job(QUESTION, 0, 0, 0, "toy", "report", "reflexion")
    policy = ScriptedPolicy(ByteCodec(), lambda context, request: (SARN, True))
    (made,) = rollout([job], lambda job: make("reflexion"), {Role.ACTOR: policy}, tools, sampling=Sampling())
    assert made.status is Status.AGENT_ERROR
    assert "write oracle=True into the method" in made.why


@pytest.mark.parametrize(
    ("branch", "answers"),
    [
        ("self_refine/refined", ("Vell", "Sarn")),
        ("self_refine/refinement_without_an_answer", ("Vell", None)),
        ("critic/three_rounds", ("Vell", "Sarn", "Vell", "Sarn")),
        ("reflexion/no_answer_is_wrong", (None, None, "Sarn")),
        ("cot_resample/right_at_the_second", ("Vell", "Sarn")),
        ("cot/answered", ("Sarn",)),
        ("rise/right_then_wrong", ("Vell", "Sarn", None, "Sarn", "Vell")),
        ("rise_collect/right_among_the_second", ("Vell", "Sarn")),
        ("rise_collect/never_right", ("Vell", "Vell")),
        ("rise_collect/nobody_answers", ("Vell", None)),
        ("closed_book/answered", ()),
        ("program_self_refine/refinement_is_empty", (SQUARE.strip(), None)),
        ("program_reflexion_self/learned", (SQUARE.strip(), BROKEN.strip(), TWICE.strip())),
        ("pot/fails", (None,)),
        ("detoxify/rewritten", ("was a stupid fool.", "was a silly man.", "was a stupid fool.", KIND.strip())),
        ("detoxify/empty", (None,)),
        ("play/lost", ("lost",)),
        ("play_reflexion/never_won", ("lost", "lost", None, None, "lost")),
        ("play_resample/won_at_the_second", ("lost", "won")),
        ("pot_critic/correction_fails", ("7", None, "21", "21")),
        ("pot_parallel/majority", ("7", "21", None, "21", None)),
    ],
)
def test_what_each_attempt_answered(branch, answers, tools):
    assert attempts(play(tools, branch)) == answers


def test_last_majority_and_any_correct_are_three_things(tools):
    """Of four trajectories two end right, two have a right majority (a tie goes to the first), three are right once."""
    branches = {
        "a": "self_refine/refinement_without_an_answer",  # Vell, none: never right
        "b": "critic/three_rounds",  # Vell, Sarn, Vell, Sarn: a tie
        "c": "critic/right_at_once",  # always right
        "d": "cot_resample/right_at_the_second",  # asked for Vell: right, then not
    }
    questions = {id: Question(id, QUESTION.text, "Vell" if id == "d" else "Sarn") for id in branches}
    made = [replace(play(tools, branch), question_id=id) for id, branch in branches.items()]
    records = judge(made, questions, answer_metric)
    assert [(one.trials, one.calls, one.em_first, one.em_majority, one.em_any) for one in records] == [
        (2, 4, 0.0, 0.0, 0.0),
        (4, 7, 0.0, 0.0, 1.0),
        (3, 5, 1.0, 1.0, 1.0),
        (2, 2, 1.0, 1.0, 1.0),
    ]
    several = row("critic", records, task="toy", split="report", weights_digest="")
    assert (several.em_first, several.em, several.em_majority, several.em_any) == (0.5, 0.5, 0.5, 0.75)
    assert (several.right_to_wrong, several.wrong_to_right) == (0.25, 0.25)
    assert (several.trials_per_trajectory, several.calls_per_trajectory, several.waves) == (11 / 4, 18 / 4, 7)


@pytest.mark.parametrize(
    "branch", ["cot/answered", "react/answered", "react_to_cot_sc/step_limit", "closed_book/answered"]
)
def test_a_method_that_attempts_a_question_once_has_no_such_columns(branch, tools):
    (once,) = judge([play(tools, branch)], {QUESTION.id: QUESTION}, answer_metric)
    assert [getattr(once, name) for name in OF_ATTEMPTS] == [None] * 5
    assert math.isnan(row("once", [once], task="toy", split="report", weights_digest="").em_any)


@pytest.mark.parametrize(
    "branch",
    [
        "self_refine/stands_at_once",
        "reflexion/right_at_once",
        "critic_oracle/right_at_once",
        "play_reflexion/won_at_once",
        "play_resample/won_at_the_second",
        "rise_collect/right_at_once",
    ],
)
def test_who_might_have_tried_again_has_them(branch, tools):
    made, question = play(tools, branch), asked(branch.split("/")[0])
    (once,) = judge([made], {question.id: question}, answer_metric)
    assert (once.trials, once.em_any) == (len(attempts(made)), 1.0)
    assert once.em_first == (0.0 if "second" in branch else 1.0)


@pytest.mark.parametrize(
    "branch",
    [
        "self_refine/refined",
        "critic/corrected",
        "reflexion/learned",
        "cot_reflexion_self/doubted",
        "rise/right_then_wrong",
        "program_self_refine/repaired",
        "program_reflexion_self/learned",
        "pot_critic/corrected",
        "pot_parallel/majority",
        "play_reflexion/learned",
        "detoxify/rewritten",
        "detoxify_without_tool/rewritten",
    ],
)
def test_what_a_method_said_can_be_learned(branch, tools, tmp_path):
    """Through the store, bare: each reply once, in order, each ended by an end-of-sequence token where its step was."""
    store.write(tmp_path / "t.parquet", [play(tools, branch)])
    (stored,) = store.read(tmp_path / "t.parquet")
    codec = ByteCodec()
    examples = examples_of(stored, codec, prompt="bare")

    def ended(call, text):
        if "Finish[" in text or "Answer:" in text or text == DOOR:
            return text
        in_block = call.segments[-1].text.endswith(f"{FENCE}python\n")
        return text + ("`" if in_block else "\n")  # of a fence the first token is kept

    said = map(ended, stored.calls, SCRIPTS[branch])
    assert "".join(codec.decode(example.ids[example.learn]) for example in examples) == "".join(said)
    assert all(example.ids[-1] == codec.end_of_turn_id and example.learn[-1] for example in examples)
    last = codec.decode(examples[-1].ids[1:])
    assert last.startswith(("Question:", "Text:"))
    assert asked(stored.agent).text.strip() in last
    assert "Sydney" not in last


def test_a_vote_counts_as_the_task_compares(tools):
    """As words 18 and $18.00 are two answers and 17 wins; as numbers they are one."""
    said = (" Answer: 18", " Answer: $18.00", " Answer: 17", " Answer: 17.", " Answer: 18 eggs")
    numbers = tuple(f" So it is.{answer}" for answer in said)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SCRIPTS, "rise_parallel/numbers", numbers)
        made = play(tools, "rise_parallel/numbers", Question("q", QUESTION.text, "18"))
    (words,) = judge([made], {"q": Question("q", "", "18")}, number_metric)
    (read,) = judge([made], {"q": Question("q", "", "18")}, number_metric, number_voice)
    assert (words.em_majority, read.em_majority) == (0.0, 1.0)


def test_another_method_is_one_file(tools, tmp_path, monkeypatch):
    assert len(Path(toy_debate.__file__).read_text().splitlines()) < 60
    monkeypatch.setattr(registry, "_REGISTERED", {})
    registry.register_method(toy_debate.METHOD)
    monkeypatch.setitem(SCRIPTS, "debate/settled", [GUESS, HINT, THOUGHT])
    made = play(tools, "debate/settled")
    assert [(call.step, call.trial) for call in made.calls] == [("think", 0), ("object", 0), ("think", 1)]
    (judged,) = judge([made], {QUESTION.id: QUESTION}, answer_metric)
    assert (judged.em, judged.trials, judged.calls, judged.em_majority, judged.em_any) == (1.0, 2, 3, 0.0, 1.0)
    test_what_a_method_said_can_be_learned("debate/settled", tools, tmp_path)
