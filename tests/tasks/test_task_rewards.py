from __future__ import annotations

import pytest

from rest_jax.core.effects import Status
from rest_jax.core.errors import UserError
from rest_jax.core.trajectory import Question, ToolCall, Trajectory
from rest_jax.tasks.rewards import answer_reward, register_reward, registered_reward

QUESTION = Question("q", "Who?", "Kel Dorim", {"searches": 2})


def trajectory(status: Status, answer: str | None, searches: int) -> Trajectory:
    tools = tuple(ToolCall(0, "search", {"query": "x"}, "x") for _ in range(searches))
    lookup = ToolCall(0, "lookup", {"title": "x", "keyword": "x"}, "x")
    return Trajectory(
        question_id="q",
        question="Who?",
        sample=0,
        seed=0,
        generation=0,
        agent="react",
        task="atlas",
        split="train",
        status=status,
        answer=answer,
        why="",
        calls=(),
        tool_calls=(*tools, lookup),
        tokenizer_digest="",
        weights_digest="",
    )


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
    with pytest.raises(UserError, match="'brieff': nobody registered it; use one of default, brief"):
        registered_reward("brieff")
