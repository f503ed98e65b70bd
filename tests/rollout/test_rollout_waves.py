"""Waves: how many rounds a batch of episodes takes in which every live one advances one call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from rollout_world import ByteCodec, LateTools, article

from rest_jax.agents.limits import Limits
from rest_jax.agents.registry import agent
from rest_jax.core.effects import Role, Sampling
from rest_jax.core.trajectory import Question, Trajectory
from rest_jax.evaluation.records import judge
from rest_jax.evaluation.table import row
from rest_jax.policies.scripted import ScriptedPolicy
from rest_jax.rollout import store
from rest_jax.rollout.episode import Job
from rest_jax.rollout.oracle import WithOracle
from rest_jax.rollout.runner import rollout
from rest_jax.tasks.metrics import answer_metric

LIMITS = Limits(turns=6, turn_tokens=64, observation_chars=80)
QUESTIONS = [Question(f"q{n}", f"What is {n}?", str(n)) for n in range(100)]
METHOD = agent("reflexion")


class InWaves(ScriptedPolicy):
    """Answers all that wait, and counts how often it was asked to."""

    waves = 0

    def step(self):
        self.waves += 1
        return [answer for _ in range(len(self._queue)) for answer in super(InWaves, self).step()]


class AtOnce(LateTools):
    """Tools that have answered when they are asked for it."""

    def poll(self, timeout_s):
        ready, self._pending = self._pending, []
        return ready


def searches(question: Question) -> int:
    return int(question.id[1:]) % 4


def trials(question: Question) -> int:
    """Right at the first to the fifth attempt, or never."""
    return min(int(question.id[1:]) % 6, 4) + 1


def some_are_right(context: str, request) -> tuple[str, bool]:
    number = int(request.key.question_id[1:])
    if context.endswith("Reflection:"):
        return " I gave another number.", False
    if context.count("Observation:") < number % 4:
        return f" I look for {number}. Action: Search[{number}]", False
    return f" So. Action: Finish[{number if request.key.trial == number % 6 else 'none'}]", True


def none_ends(context: str, request) -> tuple[str, bool]:
    return (" I only searched." if context.endswith("Reflection:") else " Still. Action: Search[it]"), False


def played(author, questions: Sequence[Question] = QUESTIONS, sessions: int = 100) -> tuple[InWaves, list[Trajectory]]:
    policy, prompt = InWaves(ByteCodec(), author), METHOD.prompt("base").bare()
    policy.sessions = sessions
    jobs = [Job(question, 0, 0, 0, "toy", "report", METHOD.name) for question in questions]
    tools = WithOracle(AtOnce(article), jobs, answer_metric)
    play = rollout(
        jobs,
        lambda job: METHOD.run(job.question.blind, prompt, LIMITS),
        {Role.ACTOR: policy},
        tools,
        sampling=Sampling(),
    )
    return policy, list(play)


def measured(made: Sequence[Trajectory], folder: Path):
    """The row of trajectories that went through the store."""
    store.write(folder / "trajectories.parquet", made)
    questions = {question.id: question for question in QUESTIONS}
    records = judge(store.read(folder / "trajectories.parquet"), questions, answer_metric)
    return row("reflexion", records, task="toy", split="report", weights_digest="")


def test_a_rows_waves_are_the_rounds_of_its_episodes(tmp_path: Path) -> None:
    """100 questions with Reflexion, five trials at most."""
    policy, made = played(some_are_right)
    told = measured(made, tmp_path)
    calls = [trials(question) * (searches(question) + 1) + trials(question) - 1 for question in QUESTIONS]
    assert (told.n, told.em) == (100, sum(int(question.id[1:]) % 6 < 5 for question in QUESTIONS) / 100)
    assert told.calls_per_trajectory == pytest.approx(sum(calls) / 100)
    assert told.waves == policy.waves == max(calls) == 24
    assert policy.waves < sum(calls) / 40


def test_one_by_one_every_call_is_a_round(tmp_path: Path) -> None:
    policy, made = played(some_are_right, sessions=1)
    assert policy.waves == sum(len(one.calls) for one in made)
    assert measured(made, tmp_path).waves == 24, "what a row tells is what a batch would take"


def test_questions_that_never_end_take_at_most_seventy_waves_with_six_turns(tmp_path: Path) -> None:
    policy, made = played(none_ends, QUESTIONS[:10])
    assert measured(made, tmp_path).waves == policy.waves == 5 * LIMITS.turns + 4 <= 70
    assert sum(len(one.calls) for one in made) == 10 * policy.waves
