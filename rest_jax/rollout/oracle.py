"""The oracle: a tool that the run answers itself, for agents whose method says that they ask it.

It knows the gold answers and tells none of them: to an answer it says whether that is right by the task's metric.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from rest_jax.core.effects import ORACLE, RIGHT, WRONG, ToolReply
from rest_jax.core.errors import UserError
from rest_jax.rollout.episode import Job
from rest_jax.rollout.runner import Tools
from rest_jax.tasks.metrics import Metric

TICK_S = 0.02
"""The most that a tool's reply waits for a verdict that takes its time."""


class WithOracle:
    """Tools, and beside them the oracle for these jobs alone. Raises UserError for one without a gold answer.

    `slow`: a metric that runs programs, for seconds, does so in a thread of its own, for the device waits for no tool.
    Others have judged when they are asked.
    """

    def __init__(self, tools: Tools, jobs: Sequence[Job], score: Metric, *, slow: bool = False) -> None:
        for job in jobs:
            if not job.question.golds:
                raise UserError(
                    f"agent '{job.agent}': it has to be told whether its answers are right, and question "
                    f"{job.question.id} has no gold answer; take an agent that goes by its own word"
                )
        self._tools = tools
        self._questions = {job.key: job.question for job in jobs}
        self._score = score
        self._thread = ThreadPoolExecutor(1, "oracle") if slow else None
        self._judging: dict[Future[ToolReply], int] = {}
        self._judged: list[tuple[int, ToolReply]] = []

    @property
    def stateful(self) -> Collection[str]:
        return self._tools.stateful

    def submit(self, id: int, tool: str, arguments: Mapping[str, Any], episode: str) -> None:
        if tool != ORACLE or episode not in self._questions:
            self._tools.submit(id, tool, arguments, episode)
        elif self._thread is None:
            self._judged.append((id, self._judge(arguments.get("answer"), episode)))
        else:
            self._judging[self._thread.submit(self._judge, arguments.get("answer"), episode)] = id

    def end(self, episode: str) -> None:
        self._tools.end(episode)

    def poll(self, timeout_s: float | None) -> list[tuple[int, ToolReply]]:
        """The replies that are there; while an answer is being judged, it waits but a moment for the first. Raises what
        the metric raises."""
        judged, self._judged = self._judged, []
        if not self._judging:
            return judged + self._tools.poll(0.0 if judged else timeout_s)
        replies = self._tools.poll(0.0)
        patience = TICK_S if timeout_s is None else min(timeout_s, TICK_S)
        wait(self._judging, 0.0 if replies else patience, FIRST_COMPLETED)
        done = [future for future in self._judging if future.done()]
        return replies + [(self._judging.pop(future), future.result()) for future in done]

    def _judge(self, answer: str | None, episode: str) -> ToolReply:
        return ToolReply(RIGHT if self._score(answer, self._questions[episode]).em == 1 else WRONG)
