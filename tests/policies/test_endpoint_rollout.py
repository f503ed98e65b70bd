"""Agents over endpoints: turns, roles and recorded replies in whole trajectories."""

from __future__ import annotations

from pathlib import Path

import pytest

from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import Prompt
from rest_jax.agents.react import react
from rest_jax.agents.replay import replay, replayed
from rest_jax.config.policies import EndpointSettings
from rest_jax.core.effects import Generate, Generated, Role, Sampling, Status, ToolReply, finished
from rest_jax.core.schema import canonical_row
from rest_jax.core.trajectory import Question
from rest_jax.core.transcript import Source, Transcript
from rest_jax.models import tokenizer
from rest_jax.models.tokenizer import Tokenizer
from rest_jax.policies.endpoint import EndpointPolicy
from rest_jax.policies.replies import Replies
from rest_jax.rollout.episode import Job
from rest_jax.rollout.runner import rollout
from rest_jax.training.examples import examples_of
from tests.models.tokenizers_for_tests import qwen_like
from tests.policies.completions_server import MODEL, Served

PROMPT = Prompt("Thought:", "Look it up.")
LIMITS = Limits(turns=3, turn_tokens=32, observation_chars=80)


class Shelf:
    """A tool that answers at once."""

    stateful: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.pending: list[tuple[int, ToolReply]] = []

    def submit(self, id, tool, arguments, episode):
        self.pending.append((id, ToolReply(f"{arguments['query']}: a town.", {"results": [{"title": "Oslo"}]})))

    def end(self, episode):
        pass

    def poll(self, timeout_s):
        ready, self.pending = self.pending, []
        return ready


def rolled(policies, agent, n: int = 1):
    some = [Job(Question(f"q{at}", f"Where is {at}?", "x"), 0, 0, 0, "toy", "train", "agent") for at in range(n)]
    made = rollout(some, agent, policies, Shelf(), sampling=Sampling(temperature=1.0))
    return sorted(made, key=lambda trajectory: trajectory.id)


@pytest.mark.parametrize("style", ["completions", "chat"])
def test_a_teacher_plays_react_and_others_learn_from_it(served: Served, tmp_path: Path, student: Tokenizer, style: str):
    cue = " " if style == "completions" else "Thought: "
    served.plan(says=[f"{cue}I look. Action: Search[Oslo]", f"{cue}A town. Action: Finish[a town]"])
    before = len(served.asked())
    settings = EndpointSettings(served.url, MODEL, style=style)
    policy = EndpointPolicy(settings, student, Replies(tmp_path / "a.jsonl"))
    (trajectory,) = rolled({Role.ACTOR: policy}, lambda job: react(job.question, PROMPT, LIMITS))
    policy.close()
    assert (trajectory.status, trajectory.answer) == (Status.FINISHED, "a town")
    assert [call.candidates[0].text for call in trajectory.calls] == [
        " I look. Action: Search[Oslo]",
        " A town. Action: Finish[a town]",
    ]
    assert [call.parent for call in trajectory.calls] == [None, 0]
    second = served.asked()[before + 1]
    opened = "Look it up.\n\nQuestion: Where is 0?\nThought:"
    if style == "completions":
        seen = f"{opened} I look. Action: Search[Oslo]\nObservation: Oslo: a town.\nThought:"
        assert second["prompt"] == seen
    else:
        assert second["messages"] == [
            {"role": "user", "content": opened},
            {"role": "assistant", "content": " I look. Action: Search[Oslo]\n"},
            {"role": "user", "content": "Observation: Oslo: a town.\nThought:"},
        ]
    outcome, _ = replay(react(Question("q0", "Where is 0?", "x"), PROMPT, LIMITS), replayed(trajectory))
    assert outcome.answer == "a town"
    another = tokenizer.load(qwen_like(tmp_path / "another"))
    for codec in (student, another):
        (example,) = examples_of(trajectory, codec, prompt="bare")
        learned = codec.decode([id for id, learn in zip(example.ids, example.learn, strict=True) if learn])
        assert learned == " I look. Action: Search[Oslo]\n A town. Action: Finish[a town]\n"
        assert example.ids[-1] == codec.end_of_turn_id
        assert example.learn[-1]


def test_a_judge_of_text_stands_beside_an_actor_of_tokens(
    served: Served, tmp_path: Path, student: Tokenizer, teacher_codec: Tokenizer
):
    served.plan(forgetful=True)

    def agent(job):
        opened = PROMPT.open(job.question.text)
        transcript = opened
        for turn in range(3):
            reply = yield Generate(transcript, f"turn {turn}", 8, ("\n",), n=2)
            transcript = transcript.said(reply, 1).prompted(f"{reply.candidates[1].overhang}\nOn:")
        verdict = yield Generate(Transcript().prompted("Good? ").quoted(transcript.text), "judge", 4, role=Role.JUDGE)
        return finished(verdict.text or "nothing")

    def made():
        settings = EndpointSettings(served.url, MODEL)
        actor = EndpointPolicy(settings, teacher_codec, Replies(tmp_path / "actor.jsonl"), own=teacher_codec)
        judge = EndpointPolicy(settings, student, Replies(tmp_path / "judge.jsonl"), own=student)
        judge.speak(actor.codec)
        trajectories = rolled({Role.ACTOR: actor, Role.JUDGE: judge}, agent, n=4)
        actor.close()
        judge.close()
        return trajectories

    first = made()
    for trajectory in first:
        assert trajectory.tokenizer_digest == teacher_codec.digest
        assert [call.role for call in trajectory.calls] == [Role.ACTOR] * 3 + [Role.JUDGE]
        assert [call.parent_candidate for call in trajectory.calls[1:3]] == [1, 1]
        assert all(candidate.logprobs for call in trajectory.calls[:3] for candidate in call.candidates)
        assert trajectory.calls[3].candidates[0].logprobs is None
        said = Transcript().said(Generated(trajectory.calls[3].candidates)).segments
        assert [segment.source for segment in said] == [Source.IMPORTED]
    asked = len(served.asked())
    assert [canonical_row(one) for one in made()] == [canonical_row(one) for one in first]
    assert len(served.asked()) == asked, "a recorded reply was asked for again"
