"""Several policies in one rollout, and policies that fail: infrastructure's failures never count as the agent's."""

from collections import Counter

import pytest
from rollout_world import PROMPT, SAMPLING, HashPolicy, LateTools, article, jobs, roll

from rest_jax.core.effects import CallTool, Generate, Role, Status, finished
from rest_jax.core.policy import Failed
from rest_jax.core.schema import canonical_row
from rest_jax.core.transcript import Transcript
from rest_jax.rollout.journal import Journal
from rest_jax.rollout.runner import rollout


class Failing(HashPolicy):
    """Fails every `each`-th request."""

    def __init__(self, each, **rest):
        super().__init__(**rest)
        self.each = each
        self.said = 0

    def say(self, request):
        self.said += 1
        return Failed("the endpoint is gone") if self.said % self.each == 0 else super().say(request)


def test_a_request_holds_the_transcript_as_the_agent_wrote_it():
    policy = HashPolicy()
    roll(jobs(2, 1), policy, LateTools(article))
    assert len(policy.seen) == 6
    for request in policy.seen:
        assert "".join(segment.text for segment in request.segments) == policy.codec.decode(request.ids[1:])


def test_a_trajectory_whose_policy_fails_begins_again_and_is_the_same():
    whole = roll(jobs(), HashPolicy(), LateTools(article))
    retried = roll(jobs(), Failing(7), LateTools(article), attempts=50)
    assert [canonical_row(one) for one in retried] == [canonical_row(one) for one in whole]
    assert sum(one.attempts for one in retried) > len(retried)


def test_a_policy_that_goes_on_failing_masks_and_the_journal_keeps_nothing_of_it(tmp_path):
    closed = []

    def agent(job):
        try:
            yield CallTool("search", {"query": "x"})
            yield Generate(PROMPT.open(job.question.text), "act", 64)
            return finished("a guess")
        finally:
            closed.append(job.key)

    policy = Failing(1)
    with Journal(tmp_path / "j") as journal:
        trajectories = roll(jobs(2, 1), policy, LateTools(article), agent, attempts=3, journal=journal)
    for one in trajectories:
        assert (one.status, one.why, one.attempts, one.calls) == (
            Status.TOOL_FAILURE,
            "the endpoint is gone",
            3,
            (),
        )
        assert one.status.is_masked
    assert set(Counter(closed).values()) == {3}
    assert not policy.open
    with Journal(tmp_path / "j") as journal:
        assert not journal.finished
        mended = roll(jobs(2, 1), HashPolicy(), LateTools(article), agent, journal=journal)
    assert all(one.status is Status.FINISHED for one in mended)


def test_each_role_is_asked_of_its_own_policy():
    def agent(job):
        reply = yield Generate(PROMPT.open(job.question.text), "act", 64)
        yield Generate(Transcript().prompted("Good? ").quoted(reply.text), "judge", 8, role=Role.JUDGE)
        return finished("x")

    actor, judge = HashPolicy(), HashPolicy()
    made = rollout(jobs(2, 1), agent, {Role.ACTOR: actor, Role.JUDGE: judge}, LateTools(article), sampling=SAMPLING)
    for trajectory in made:
        assert [call.role for call in trajectory.calls] == [Role.ACTOR, Role.JUDGE]
    assert [request.role for request in judge.seen] == [Role.JUDGE] * 2
    assert [request.role for request in actor.seen] == [Role.ACTOR] * 2
    judge.codec.digest = "other"
    with pytest.raises(ValueError, match="must share a tokenizer"):
        list(rollout(jobs(1, 1), agent, {Role.ACTOR: actor, Role.JUDGE: judge}, LateTools(article), sampling=SAMPLING))
