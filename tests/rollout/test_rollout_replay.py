"""A stored trajectory replays: what its agent was given takes it the same way again."""

import pytest
from rollout_world import PROMPT, HashPolicy, LateTools, article, f32, jobs, roll

from rest_jax.agents.replay import replay, replayed
from rest_jax.core.effects import All, CallTool, Choose, Generate, Role, Score, finished
from rest_jax.core.trajectory import context_of
from rest_jax.core.transcript import Transcript
from rest_jax.rollout import store


def thorough(job):
    """Uses every effect, together and apart, and goes on with a reply that the rule did not choose."""
    opened = PROMPT.open(job.question.text)
    asked = Generate(opened, "act", 64, ("\n",), n=3, choose=Choose.LOWEST_PERPLEXITY)
    found, reply = yield All((CallTool("search", {"query": "a"}), asked))
    other = (reply.chosen + 1) % 3
    texts = tuple(candidate.text for candidate in reply.candidates)
    scored, more = yield All((Score(opened, texts), CallTool("search", {"query": "b"})))
    nothing = yield All(())
    said = opened.said(reply, other).prompted("\nMore:")
    last = yield Generate(said, "reflect", 64, ("\n",), trial=1)
    verdict = yield Score(said, (" yes", " no"), step="check")
    doubt = yield Score(Transcript().prompted("Right? ").quoted(last.text), (" yes",), step="check")
    return finished(repr((found, reply, scored, more, nothing, last, verdict, doubt)))


@pytest.fixture
def trajectory(tmp_path):
    roll_of_one = roll(jobs(1, 1), HashPolicy(), LateTools(article), thorough)
    store.write(tmp_path / "t.parquet", roll_of_one)
    (stored,) = store.read(tmp_path / "t.parquet")
    assert [stored] == roll_of_one
    return stored


def test_every_effect_gets_again_what_it_got(trajectory):
    assert trajectory.answer is not None
    outcome, asked = replay(thorough(jobs(1, 1)[0]), replayed(trajectory))
    assert (outcome.status, outcome.answer) == (trajectory.status, trajectory.answer)
    assert len(asked) == 6


def test_a_record_of_another_agent_is_refused(trajectory):
    def brief(job):
        yield CallTool("search", {"query": "a"})
        return finished("x")

    with pytest.raises(ValueError, match="the agent ended and left 6 of 7 recorded outcomes"):
        replay(brief(jobs(1, 1)[0]), replayed(trajectory))
    with pytest.raises(ValueError, match="wants more than the 0 recorded outcomes"):
        replay(brief(jobs(1, 1)[0]), [])


def test_scores_are_stored_with_what_was_scored(trajectory):
    together, verdict, doubt = trajectory.scores
    said = trajectory.calls[0].candidates
    assert [continuation.text for continuation in together.continuations] == [candidate.text for candidate in said]
    assert all(c.logprobs == tuple(f32(-token / 256) for token in c.ids) for c in together.continuations)
    assert [(score.after, score.step, score.role) for score in trajectory.scores] == [
        (0, "score", Role.ACTOR),
        (1, "check", Role.ACTOR),
        (1, "check", Role.ACTOR),
    ]
    # Like a call, a score keeps only what its parent has not; and it changes nothing of the parent.
    assert (together.parent, together.segments) == (None, trajectory.calls[0].segments)
    assert (verdict.parent, verdict.parent_candidate) == (0, trajectory.calls[1].parent_candidate)
    assert verdict.segments == trajectory.calls[1].segments
    assert verdict.segments == context_of(trajectory.calls, 1)[-len(verdict.segments) :]
    assert doubt.parent is None
    assert [segment.text for segment in doubt.segments] == ["Right? ", trajectory.calls[1].candidates[0].text]


def test_nothing_scored_counts_as_sampled(trajectory):
    sampled = sum(len(candidate.ids) for call in trajectory.calls for candidate in call.candidates)
    assert trajectory.model_tokens == sampled


def test_a_calls_trial_is_stored_and_part_of_its_key():
    def agent(job):
        for trial in (0, 1):
            yield Generate(PROMPT.open(job.question.text), "act", 64, ("\n",), trial=trial)
        return finished("x")

    policy = HashPolicy()
    (trajectory,) = roll(jobs(1, 1), policy, LateTools(article), agent)
    assert [call.trial for call in trajectory.calls] == [0, 1]
    assert [request.key.trial for request in policy.seen] == [0, 1]
