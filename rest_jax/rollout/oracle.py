"""The oracle: a tool that the run answers itself, for agents whose method says that they ask it.

It knows the gold answers and tells none of them: to an answer it says whether that is right by the task's metric.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rest_jax.core.effects import ORACLE, RIGHT, WRONG, ToolReply
from rest_jax.core.errors import UserError
from rest_jax.rollout.episode import Job
from rest_jax.rollout.runner import Tools
from rest_jax.tasks.metrics import Metric


class WithOracle:
    """Tools, and beside them the oracle for these jobs alone. Raises UserError for one without a gold answer."""

    def __init__(self, tools: Tools, jobs: Sequence[Job], score: Metric) -> None:
        for job in jobs:
            if not job.question.golds:
                raise UserError(
                    f"agent '{job.agent}': it has to be told whether its answers are right, and question "
                    f"{job.question.id} has no gold answer; take an agent that goes by its own word"
                )
        self._tools = tools
        self._questions = {job.key: job.question for job in jobs}
        self._score = score
        self._ready: list[tuple[int, ToolReply]] = []

    @property
    def stateful(self) -> Collection[str]:
        return self._tools.stateful

    def submit(self, id: int, tool: str, arguments: Mapping[str, Any], episode: str) -> None:
        if tool == ORACLE and episode in self._questions:
            right = self._score(arguments["answer"], self._questions[episode]).em == 1
            self._ready.append((id, ToolReply(RIGHT if right else WRONG)))
        else:
            self._tools.submit(id, tool, arguments, episode)

    def poll(self, timeout_s: float | None) -> list[tuple[int, ToolReply]]:
        ready, self._ready = self._ready, []
        return ready + self._tools.poll(0.0 if ready else timeout_s)
