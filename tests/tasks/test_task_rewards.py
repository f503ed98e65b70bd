from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest

from rest_jax.core.effects import Status
from rest_jax.core.errors import UserError
from rest_jax.core.reward import Reward
from rest_jax.core.trajectory import Question, ToolCall, Trajectory
from rest_jax.tasks.rewards import answer_reward, named_reward, register_reward, registered_reward, within_bounds
from tests.trajectories import trajectory as played

QUESTION = Question("q", "Who?", "Kel Dorim", {"searches": 2})


def trajectory(status: Status, answer: str | None, searches: int) -> Trajectory:
    tools = tuple(ToolCall(0, "search", {"query": "x"}, "x") for _ in range(searches))
    lookup = ToolCall(0, "lookup", {"title": "x", "keyword": "x"}, "x")
    return played(status=status, answer=answer, tool_calls=(*tools, lookup))


@pytest.mark.parametrize(
    ("status", "answer", "searches", "reward"),
    [
        (Status.FINISHED, "Kel Dorim", 2, 1.0),
        (Status.FINISHED, "Kel Dorim", 0, 1.0),
        (Status.FINISHED, "Kel Dorim", 3, 0.95),
        (Status.FINISHED, "Osa Dorim", 4, 0.5 * 0.9),
        (Status.FINISHED, "Kel Dorim", 22, 0.0),
        (Status.FINISHED, "Kel Dorim", 40, 0.0),
        (Status.FINISHED, "Tolven", 2, 0.0),
        (Status.STEP_LIMIT, None, 6, 0.0),
        (Status.MALFORMED, None, 0, 0.0),
        (Status.TOOL_FAILURE, None, 1, None),
        (Status.NONFINITE, None, 1, None),
        (Status.AGENT_ERROR, None, 1, None),
    ],
)
def test_default_reward(status: Status, answer: str | None, searches: int, reward: float | None) -> None:
    given = answer_reward(trajectory(status, answer, searches), QUESTION)
    assert given is None if reward is None else given == pytest.approx(reward, abs=1e-12)


def test_no_search_is_wasted_where_the_need_is_unknown() -> None:
    question = Question("q", "Who?", "Kel Dorim")
    assert answer_reward(trajectory(Status.FINISHED, "Kel Dorim", 9), question) == 1.0


def test_registered_rewards() -> None:
    def brief(trajectory: Trajectory, question: Question) -> float:
        return 1.0

    register_reward("brief", brief)
    register_reward("brief", brief)
    assert registered_reward("brief") is brief
    with pytest.raises(UserError, match="'brief': the name is taken"):
        register_reward("brief", answer_reward)
    with pytest.raises(UserError, match="'default': the name is taken"):
        register_reward("default", answer_reward)
    with pytest.raises(UserError, match="'brieff': nobody registered it; use one of default, correct, brief"):
        registered_reward("brieff")


def cell(value: float) -> tuple[Reward, Reward]:
    """What a notebook's cell defines; each run of it makes new objects."""

    def function(trajectory: Trajectory, question: Question) -> float:
        return value

    class Grader:
        def __call__(self, trajectory: Trajectory, question: Question) -> float:
            return value

    return function, Grader()


def test_a_cell_that_runs_again_replaces_its_rewards() -> None:
    for value in (0.25, 0.75):
        function, grader = cell(value)
        register_reward("function", function)
        register_reward("grader", grader)
        assert registered_reward("function") is function
        assert registered_reward("grader") is grader
    with pytest.raises(UserError, match="'grader': the name is taken"):
        register_reward("grader", function)


@dataclass(frozen=True)
class Priced:
    price: float

    def __call__(self, trajectory: Trajectory, question: Question) -> float:
        return self.price


def test_a_reward_is_named_by_all_that_it_was_given() -> None:
    def flat(price: float, trajectory: Trajectory, question: Question) -> float:
        return price

    made = [(cell(price)[0], cell(price)[1], Priced(price), partial(flat, price)) for price in (0.1, 0.2, 0.1)]
    first, second, again = ([named(f"way_{way}", reward) for way, reward in enumerate(rewards)] for rewards in made)
    assert first == again
    assert not {*first} & {*second}
    assert named_reward("default") == "default"
    with pytest.raises(UserError, match="nobody registered it"):
        named_reward("never")


def named(name: str, reward: Reward) -> str:
    register_reward(name, reward)
    return named_reward(name)


def test_what_a_reward_remembers_makes_it_no_other() -> None:
    class Remembering:
        def __init__(self) -> None:
            self.seen = list[str]()

        def __call__(self, trajectory: Trajectory, question: Question) -> float:
            self.seen.append(trajectory.id)
            return 1.0

    reward = Remembering()
    before = named("remembering", reward)
    reward(trajectory(Status.FINISHED, "x", 0), QUESTION)
    assert named_reward("remembering") == before == named("remembering", Remembering())


@pytest.mark.parametrize("given", [0, 1, 0.5, True, np.float32(0.5)])
def test_a_number_from_0_to_1_is_a_reward(given: float) -> None:
    held = within_bounds("mine", lambda trajectory, question: given)
    reward = held(trajectory(Status.FINISHED, "x", 0), QUESTION)
    assert (reward, type(reward)) == (float(given), float)


def test_none_masks() -> None:
    assert (
        within_bounds("mine", lambda trajectory, question: None)(trajectory(Status.FINISHED, "x", 0), QUESTION) is None
    )


@pytest.mark.parametrize("given", [-0.1, 1.5, math.nan, math.inf, "0.5", [1]])
def test_anything_else_is_told_with_its_trajectory(given: object) -> None:
    held = within_bounds("mine", lambda trajectory, question: given)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match=r"^reward 'mine' of trajectory q#0: .*return a number from 0 to 1, or None"):
        held(trajectory(Status.FINISHED, "x", 0), QUESTION)
