"""Ways to make trajectories, from the plainest to the runner's, over one engine, one agent, one prompt and real tools.

What each turn says is scripted (a random model would never act), and how many tokens it takes: all do the same work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, cycle, pairwise

from benchmarks.models import GREEDY
from benchmarks.words import Words, filled, in_order
from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import Prompt
from rest_jax.agents.registry import Method
from rest_jax.config.settings import AgentSettings
from rest_jax.core.effects import Agent, Candidate, Finish, Role, Status, ToolReply
from rest_jax.core.policy import Policy, Request, ScoreRequest
from rest_jax.core.trajectory import Call
from rest_jax.rollout.episode import Episode, Job, ToolRequest
from rest_jax.rollout.recording import encoder, ids_of
from rest_jax.rollout.runner import rollout
from rest_jax.sampling.engine import Engine
from rest_jax.tasks.task import Task
from rest_jax.tools.client import ToolClient

Trajectories = list[tuple[Call, ...]]
"""The model calls of each trajectory."""


@dataclass(frozen=True)
class Script:
    """Who answers which questions, and what is said in each turn."""

    method: Method
    prompt: Prompt
    limits: Limits
    jobs: tuple[Job, ...]
    said: Mapping[str, tuple[str, ...]]
    """By question id, the text of each turn."""

    def agent(self, job: Job) -> Agent:
        return self.method.run(job.question, self.prompt, self.limits)


def script(task: Task, turns: int, turn_tokens: int, trajectories: int, method: Method, samples: int = 1) -> Script:
    """An agent with two worked examples on the task's first train questions, `samples` times on each. In all turns but
    the last it says what it says in the gold demonstration (again from the beginning when that is short), in the last
    what ends that one."""
    gold = task.sources["gold"][: -(-trajectories // samples)]
    lines = {demonstration.question.id: method.lines(demonstration) for demonstration in gold}
    said = {id: filled([line.said for line in some], turns) for id, some in lines.items()}
    return Script(
        method,
        method.prompt("base", task.shots(2)),
        Limits(turns, turn_tokens, AgentSettings().observation_chars),
        tuple(
            Job(demonstration.question, sample, 0, 0, task.name, "train", method.name)
            for demonstration in gold
            for sample in range(samples)
        )[:trajectories],
        said,
    )


class Dubbed:
    """An engine whose replies have all the tokens that they may have, and for the agent others' words, as if they had
    ended a turn."""

    def __init__(self, engine: Policy, words: Words) -> None:
        self.codec, self.weights_digest = engine.codec, engine.weights_digest
        self._engine = engine
        self._words = words
        self._said: dict[int, str] = {}

    @property
    def sessions(self) -> int:
        return self._engine.sessions

    @property
    def busy(self) -> bool:
        return self._engine.busy

    def submit(self, request: Request | ScoreRequest) -> None:
        assert isinstance(request, Request)
        self._said[request.id] = self._words(request)
        self._engine.submit(replace(request, stop=()))

    def step(self) -> list[tuple[int, Candidate]]:
        return [(id, self._dubbed(id, candidate)) for id, candidate in self._engine.step()]

    def release(self, session: int) -> None:
        self._engine.release(session)

    def _dubbed(self, id: int, candidate: Candidate) -> Candidate:
        said = self._said.pop(id)
        return replace(candidate, text=said, finish=Finish.STOP) if candidate.finish is Finish.LENGTH else candidate


def in_lockstep(
    engine: Engine, script: Script, jobs: Sequence[Job], tools: ToolClient, *, at_once: int, keep: bool
) -> Trajectories:
    """Trajectories in batches of `at_once`, turn by turn: when all of a batch have replied, all call their tools.

    Without `keep` each turn computes its whole context anew.
    """
    policy = Dubbed(engine, in_order(script.said))
    encode, tickets, sessions = encoder(policy.codec), count(), count()
    first_ids = cycle(range(policy.codec.vocab_size))
    done: Trajectories = []
    for start in range(0, len(jobs), at_once):
        episodes = [
            Episode(
                job,
                script.agent(job),
                session=next(sessions),
                attempt=1,
                encode=encode,
                bos_ids=policy.codec.bos_ids,
                sampling=GREEDY,
                replies={},
                tickets=tickets,
            )
            for job in jobs[start : start + at_once]
        ]
        while orders := {order.id: (order, episode) for episode in episodes for order in episode.advance()}:
            for order, episode in orders.values():
                match order:
                    case ToolRequest():
                        tools.submit(order.id, order.tool, order.arguments, episode.job.key)
                    case Request() if not keep:
                        # Another first token: nothing that the engine has cached of any context fits.
                        policy.submit(replace(order, ids=(next(first_ids), *order.ids[1:])))
                    case _:
                        policy.submit(order)
            for ticket, result in _results(policy, tools):
                orders[ticket][1].settle(ticket, result)
            if not keep:
                for episode in episodes:
                    policy.release(episode.session)
        for episode in episodes:
            policy.release(episode.session)
            _refuse_unfinished(episode.outcome.status if episode.outcome else None)
            done.append(tuple(episode.recording.calls))
    return done


def by_the_runner(engine: Engine, script: Script, jobs: Sequence[Job], tools: ToolClient) -> Trajectories:
    """Trajectories as a run makes them: as many at once as are resident, each at its own pace."""
    done: Trajectories = []
    policies = {Role.ACTOR: Dubbed(engine, in_order(script.said))}
    for trajectory in rollout(jobs, script.agent, policies, tools, sampling=GREEDY):
        _refuse_unfinished(trajectory.status)
        done.append(trajectory.calls)
    return done


def unique_tokens(trajectories: Trajectories) -> int:
    """Tokens that some system must prefill: those that a transcript opens with or a reply is followed by, common
    beginnings counted once."""
    every = [call for calls in trajectories for call in calls]
    openings = sorted(ids_of(call.segments) for call in every if call.parent is None)
    shared = sum(_common(one, other) for one, other in pairwise(openings))
    later = sum(len(ids_of(call.segments)) for call in every if call.parent is not None)
    return sum(map(len, openings)) - shared + later


def _results(policy: Dubbed, tools: ToolClient) -> Iterator[tuple[int, Candidate | ToolReply]]:
    """What was asked for, all of it: replies, then what the tools say."""
    while policy.busy:
        yield from policy.step()
    while tools.in_flight:
        yield from tools.poll(None)


def _refuse_unfinished(status: Status | None) -> None:
    if status is not Status.FINISHED:
        raise RuntimeError(f"a scripted trajectory ended as {status}: the systems did not do the same work")


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many leading ids two contexts share."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
