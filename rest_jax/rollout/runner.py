"""The runner: thousands of agents over policies and tools. The device never waits for a tool."""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import count, groupby
from typing import Any, Protocol

from rest_jax.core.effects import Agent, Outcome, Role, Sampling, Status, ToolReply, stopped
from rest_jax.core.errors import UserError
from rest_jax.core.events import Event, Listener, silent, warning
from rest_jax.core.policy import Policy, Request, ScoreRequest
from rest_jax.core.trajectory import Trajectory
from rest_jax.distributed.group import Group
from rest_jax.rollout.episode import Episode, Job, Order, ToolRequest, well_formed
from rest_jax.rollout.journal import Journal, ToolKey
from rest_jax.rollout.recording import encoder

GRACE_S = 0.005
GRACE_SHARE = 0.03
"""What is waited after a block for tools that answer at once, because a row that misses the next block idles for all
of it: so many seconds, and at most this share of the block's own time. Slow tools cost a fast device no more."""

POLL_S = 1.0
"""The longest wait for a tool's reply before the runner looks around (an interrupt is noticed then)."""

# Unique in the process: what an interrupted rollout left behind in a policy or a client is never taken for another's.
_TICKETS = count()
_SESSIONS = count()


class Tools(Protocol):
    """What a rollout needs of the tools; `tools.client.ToolClient` is one. A failure is a reply with a fault."""

    @property
    def stateful(self) -> Collection[str]:
        """Tools whose replies belong to a session: an episode that begins again begins another."""
        ...

    def submit(self, id: int, tool: str, arguments: Mapping[str, Any], episode: str) -> None: ...

    def end(self, episode: str) -> None:
        """An episode is over, or begins again: whatever state it has with the tools is nobody's now. Another of its
        name, in a later stage, begins anew."""
        ...

    def poll(self, timeout_s: float | None) -> list[tuple[int, ToolReply]]:
        """Replies that have arrived; waits for the first one at most `timeout_s`."""
        ...


def rollout(
    jobs: Sequence[Job],
    make_agent: Callable[[Job], Agent],
    policies: Mapping[Role, Policy],
    tools: Tools,
    *,
    sampling: Sampling,
    journal: Journal | None = None,
    attempts: int = 3,
    emit: Listener = silent,
    stage: str = "rollout",
    group: Group | None = None,
) -> Iterator[Trajectory]:
    """Make the jobs' trajectories and yield each as soon as it has ended (first those that the journal holds).

    The content of a trajectory does not depend on the others, on time, or on how often the rollout was killed and
    begun again with its journal; the order of the yields does. A trajectory is durable in the journal before it is
    yielded. A trajectory whose tools or policies fail for reasons of infrastructure begins again, `attempts` times in
    all, and keeps the replies that it has, but for those of stateful tools, which it asks again from the beginning;
    then it ends as `tool_failure`, which the journal does not keep: begun again with its journal, the rollout tries
    once more. An agent whose code raises ends as `agent_error`.

    Of several processes of a `group`, which have the same jobs and have read the same journals, each makes a part: a
    question at a time that none of them has taken, while it has fewer under way than its equal share would be. What
    the journals hold is the first one's to yield.

    Raises UserError when an agent asks for a role that has no policy, or when the journal is of another policy;
    ValueError when two jobs have one key or the policies have several tokenizers.
    """
    if len({job.key for job in jobs}) < len(jobs):
        raise ValueError("two jobs of one rollout have the same seed, generation, question id and sample")
    if len({policy.codec.digest for policy in policies.values()}) > 1:
        raise ValueError("the policies of one rollout must share a tokenizer: a transcript's ids are its tokenizer's")
    group = group or Group()
    runner = _Runner(make_agent, policies, tools, sampling, journal, attempts, emit)
    kept = [runner.checked(journal, job) for job in jobs if journal is not None and job.key in journal.finished]
    left = [job for job in jobs if journal is None or job.key not in journal.finished]
    taken, made = group.counter(), group.counter()
    progress = _Progress(emit, stage, len(jobs), kept)
    if group.first:
        yield from kept
    for trajectory in runner.run(leased(left, taken), at_once=math.ceil(len(left) / group.count)):
        progress.add(trajectory, made())
        yield trajectory


def leased(jobs: Sequence[Job], taken: Callable[[], int]) -> Iterator[Job]:
    """The jobs of those blocks whose places, from 0, `taken` gives. A block is what there is of one question."""
    blocks = [list(block) for _, block in groupby(jobs, lambda job: job.question.id)]
    while (place := taken()) < len(blocks):
        yield from blocks[place]


class _Progress:
    """Tells the listener how far a rollout is: once at its beginning, with what an earlier process did (which counts
    in no rate), then with each trajectory. What is done counts all processes, rates and what is masked this one."""

    def __init__(self, emit: Listener, stage: str, total: int, kept: Sequence[Trajectory]) -> None:
        self._emit, self._stage, self._total = emit, stage, total
        self._began = time.monotonic()
        self._kept = self._done = len(kept)
        self._masked = sum(trajectory.status.is_masked for trajectory in kept)
        self._tokens = 0
        self._tell()

    def add(self, trajectory: Trajectory, before: int) -> None:
        """`before`: those that were made before it, by whichever process."""
        self._done = self._kept + before + 1
        self._masked += trajectory.status.is_masked
        self._tokens += trajectory.model_tokens
        self._tell()

    def _tell(self) -> None:
        rates = {"tokens_per_second": self._tokens / max(time.monotonic() - self._began, 1e-9), "masked": self._masked}
        data = {"stage": self._stage, "done": self._done, "total": self._total, "unit": "trajectories"}
        self._emit(Event("progress", data | rates))


class _Runner:
    """The episodes under way, and where each result belongs."""

    def __init__(
        self,
        make_agent: Callable[[Job], Agent],
        policies: Mapping[Role, Policy],
        tools: Tools,
        sampling: Sampling,
        journal: Journal | None,
        attempts: int,
        emit: Listener,
    ) -> None:
        self._make_agent = make_agent
        self._policies = policies
        self._actor = policies[Role.ACTOR]
        self._tools = tools
        self._sampling = sampling
        self._journal = journal
        self._attempts = attempts
        self._emit = emit
        self._encode = encoder(self._actor.codec)
        self._capacity = min(policy.sessions for policy in policies.values())
        self._jobs: Iterator[Job] = iter(())
        self._again: deque[tuple[Job, int]] = deque()
        self._live: dict[int, Episode] = {}
        self._ended: list[Episode] = []
        self._owner: dict[int, Episode] = {}
        self._tool_requests: dict[int, ToolRequest] = {}
        self._used: defaultdict[int, set[Policy]] = defaultdict(set)
        self._replies: defaultdict[str, dict[ToolKey, ToolReply]] = defaultdict(dict)
        self._began: dict[str, float] = {}
        self._warned: set[str] = set()

    def run(self, jobs: Iterator[Job], *, at_once: int) -> Iterator[Trajectory]:
        self._jobs, self._capacity = jobs, min(self._capacity, at_once)
        if self._journal is not None:
            self._replies.update({job: dict(replies) for job, replies in self._journal.replies.items()})
        try:
            while self._admit():
                self._work()
                yield from self._harvest()
        finally:
            for episode in tuple(self._live.values()):
                episode.close()
                self._leave(episode)

    def checked(self, journal: Journal, job: Job) -> Trajectory:
        """A trajectory that the journal holds. Raises UserError when it is another policy's."""
        trajectory = journal.finished[job.key]
        if trajectory.weights_digest != self._actor.weights_digest:
            raise UserError(
                f"{journal.path}: holds trajectories of other weights ({trajectory.weights_digest[:12]}, not "
                f"{self._actor.weights_digest[:12]}); delete it, or run in another folder"
            )
        return trajectory

    def _admit(self) -> bool:
        """Begin what there is room for; whether there is anything to work on then."""
        while len(self._live) < self._capacity and (begun := self._next()) is not None:
            job, attempt = begun
            self._began.setdefault(job.key, time.monotonic())
            if self._journal is not None:
                self._journal.add_begun(job.key)
            episode = Episode(
                job,
                self._make_agent(job),
                session=next(_SESSIONS),
                attempt=attempt,
                encode=self._encode,
                bos_ids=self._actor.codec.bos_ids,
                sampling=self._sampling,
                replies=self._replies[job.key],
                tickets=_TICKETS,
            )
            self._live[episode.session] = episode
            self._advance(episode)
        return bool(self._live or self._ended)

    def _next(self) -> tuple[Job, int] | None:
        """A job and its attempt, from 1: those that have to begin again come after all others."""
        if (job := next(self._jobs, None)) is not None:
            return job, 1
        return self._again.popleft() if self._again else None

    def _work(self) -> None:
        """A block of every policy that has work, then what the tools have; wait for a tool only if no policy works."""
        began = time.monotonic()
        worked = False
        for policy in dict.fromkeys(self._policies.values()):
            if policy.busy:
                worked = True
                for ticket, candidate in policy.step():
                    self._settle(ticket, candidate)
        if self._tool_requests:
            grace = min(GRACE_S, GRACE_SHARE * (time.monotonic() - began))
            for ticket, reply in self._tools.poll(grace if worked or self._ended else POLL_S):
                if ticket in self._tool_requests:
                    self._settle(ticket, self._keep(ticket, well_formed(reply)))
        elif self._live and not (worked or self._ended):
            raise RuntimeError(f"{len(self._owner)} requests were neither answered nor are they under way")

    def _settle(self, ticket: int, result: Any) -> None:
        episode = self._owner.pop(ticket, None)
        if episode is None:
            return
        episode.settle(ticket, result)
        if not episode.waiting:
            self._advance(episode)

    def _keep(self, ticket: int, reply: ToolReply) -> ToolReply:
        """A reply is journaled before its agent gets it; a failure of the infrastructure is nothing to keep, and the
        reply of a stateful tool is worth nothing without its session, which may be gone when it is needed."""
        request = self._tool_requests.pop(ticket)
        failed = reply.fault is not None and reply.fault.kind.is_infrastructure
        if not failed and request.tool not in self._tools.stateful:
            job = self._owner[ticket].job
            self._replies[job.key][request.key] = reply
            if self._journal is not None:
                self._journal.add_reply(job.key, request.key, reply)
        return reply

    def _advance(self, episode: Episode) -> None:
        failure = episode.failure
        if failure is not None and episode.attempt < self._attempts:
            episode.close()
            self._leave(episode)
            self._again.append((episode.job, episode.attempt + 1))
            return
        for order in episode.advance():
            self._place(episode, order)
        if episode.outcome is None:
            return
        if failure is not None and not episode.outcome.status.is_masked:
            episode.outcome = stopped(Status.TOOL_FAILURE, failure)
        self._leave(episode)
        self._ended.append(episode)

    def _place(self, episode: Episode, order: Order) -> None:
        self._owner[order.id] = episode
        match order:
            case Request() | ScoreRequest():
                if order.role not in self._policies:
                    raise UserError(f"agent '{episode.job.agent}': it asks for a {order.role}, and the run has none")
                policy = self._policies[order.role]
                self._used[episode.session].add(policy)
                policy.submit(order)
            case ToolRequest():
                self._tool_requests[order.id] = order
                self._tools.submit(order.id, order.tool, order.arguments, episode.job.key)

    def _leave(self, episode: Episode) -> None:
        del self._live[episode.session]
        self._tools.end(episode.job.key)
        for policy in self._used.pop(episode.session, ()):
            policy.release(episode.session)

    def _harvest(self) -> Iterator[Trajectory]:
        ended, self._ended = self._ended, []
        trajectories = [self._trajectory(episode) for episode in ended]
        if self._journal is not None and ended:
            for episode, trajectory in zip(ended, trajectories, strict=True):
                # A failure of the infrastructure is nothing to keep: a run begun again may find it mended.
                if trajectory.status is not Status.TOOL_FAILURE:
                    self._journal.add_trajectory(episode.job.key, trajectory)
            self._journal.commit()
        for trajectory in trajectories:
            self._warn(trajectory)
            yield trajectory

    def _warn(self, trajectory: Trajectory) -> None:
        """Of what is masked and is no tool's fault: of each mistake of an agent, and of weights that are no numbers,
        once."""
        match trajectory.status:
            case Status.AGENT_ERROR:
                what, line = trajectory.why, f"agent '{trajectory.agent}' failed on {trajectory.id}: {trajectory.why}"
            case Status.NONFINITE:
                what, line = trajectory.status, f"{trajectory.id} ended for want of numbers: {trajectory.why}"
            case _:
                return
        if what not in self._warned:
            self._warned.add(what)
            warning(self._emit, line)

    def _trajectory(self, episode: Episode) -> Trajectory:
        job = episode.job
        outcome = episode.outcome
        assert isinstance(outcome, Outcome)
        self._replies.pop(job.key, None)
        return Trajectory(
            question_id=job.question.id,
            question=job.question.text,
            sample=job.sample,
            seed=job.seed,
            generation=job.generation,
            agent=job.agent,
            task=job.task,
            split=job.split,
            status=outcome.status,
            answer=outcome.answer,
            why=outcome.why,
            calls=episode.recording.ended(outcome),
            tool_calls=tuple(episode.tool_calls),
            scores=tuple(episode.recording.scores),
            tokenizer_digest=self._actor.codec.digest,
            weights_digest=self._actor.weights_digest,
            seconds=time.monotonic() - self._began.pop(job.key),
            attempts=episode.attempt,
        )
