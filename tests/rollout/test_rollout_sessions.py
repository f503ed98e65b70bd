"""Episodes whose tools keep a state for them: when it is lost, they begin again, and nothing else changes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from rollout_world import LIMITS, PROMPT, HashPolicy, LateTools, jobs, roll

from rest_jax.core.effects import CallTool, Generate, Status, ToolErrorKind, ToolFault, ToolReply, finished, stopped
from rest_jax.core.schema import canonical_row
from rest_jax.rollout.journal import Journal

TURNS = 3


def play(job):
    """Resets, then searches and acts in turn; what `act` shows depends on all that was done before."""
    transcript = PROMPT.open(job.question.text)
    seen = yield CallTool("reset", {"game": 1})
    for turn in range(TURNS):
        reply = yield Generate(transcript, step="act", max_tokens=LIMITS.turn_tokens, stop=PROMPT.stop)
        yield CallTool("search", {"query": f"{job.question.id} {turn}"})
        seen = yield CallTool("act", {"command": f"step {turn}"})
        if seen.fault is not None:
            return stopped(Status.TOOL_FAILURE, seen.fault.message)
        transcript = PROMPT.observe(transcript.said(reply), seen.content)
    return finished(seen.content)


class World(LateTools):
    """`act` shows all that its episode did since its `reset`; `restart` forgets the sessions at so many calls."""

    stateful = frozenset({"reset", "act"})

    def __init__(self, restarts=(), seed=0):
        super().__init__(lambda tool, arguments, nth: ToolReply(""), seed)
        self._restarts = restarts
        self._sessions: dict[str, list[str]] = {}

    def submit(self, id, tool, arguments, episode):
        self.calls.append((episode, tool, dict(arguments)))
        if len(self.calls) in self._restarts:
            self._sessions.clear()
        self._pending.append((id, self._reply(tool, arguments, episode)))

    def _reply(self, tool, arguments, episode):
        if tool == "search":
            return ToolReply(f"about {arguments['query']}", tool_version="1")
        if tool == "reset":
            self._sessions[episode] = []
            return ToolReply("begun", tool_version="2")
        if episode not in self._sessions:
            return ToolReply("", fault=ToolFault(ToolErrorKind.INFRA, "session lost"), tool_version="2")
        self._sessions[episode].append(arguments["command"])
        return ToolReply(" ".join(self._sessions[episode]), tool_version="2")


def rows(trajectories):
    """Canonical rows, by id; only the number of attempts may tell that something was lost."""
    return [canonical_row(replace(trajectory, attempts=1)) for trajectory in trajectories]


@pytest.mark.parametrize("restarts", [(9,), (20, 45), range(15, 70, 9)])
def test_lost_sessions_change_no_trajectory(restarts):
    undisturbed = roll(jobs(), HashPolicy(), World(), make_agent=play)
    made = roll(jobs(), HashPolicy(), World(restarts, seed=3), make_agent=play, attempts=9)
    assert all(trajectory.answer == "step 0 step 1 step 2" for trajectory in made)
    assert rows(made) == rows(undisturbed)
    assert any(trajectory.attempts > 1 for trajectory in made)


def test_each_attempt_is_ended_once():
    world = World((30,), seed=1)
    made = roll(jobs(), HashPolicy(), world, make_agent=play)
    ended = Counter(episode.rsplit("/")[-1] for episode in world.ended)
    assert ended == {trajectory.id: trajectory.attempts for trajectory in made}
    assert set(ended.values()) == {1, 2}


def test_what_needs_no_session_is_not_asked_again():
    world = World((30,), seed=1)
    made = roll(jobs(), HashPolicy(), world, make_agent=play)
    searches = [(episode, arguments["query"]) for episode, tool, arguments in world.calls if tool == "search"]
    resets = [episode for episode, tool, _ in world.calls if tool == "reset"]
    assert len(set(searches)) == len(searches) == TURNS * len(made)
    assert len(resets) > len(made)


def test_a_run_begun_again_begins_its_sessions_again(tmp_path):
    undisturbed = roll(jobs(), HashPolicy(), World(), make_agent=play)

    class Killed(Exception):
        pass

    class Dying(World):
        def poll(self, timeout_s):
            if len(self.calls) > 40:
                raise Killed
            return super().poll(timeout_s)

    with Journal(tmp_path / "journal.jsonl") as journal, pytest.raises(Killed):
        roll(jobs(), HashPolicy(), Dying(), make_agent=play, journal=journal)
    world = World(seed=5)  # another process: no session is there
    with Journal(tmp_path / "journal.jsonl") as journal:
        assert journal.replies  # what needs no session was kept
        made = roll(jobs(), HashPolicy(), world, make_agent=play, journal=journal)
    assert rows(made) == rows(undisturbed)
    assert all(trajectory.attempts == 1 for trajectory in made)
