"""The whole spine on real weights: prompted SmolLM2, the real engine, a real adapter process."""

import json

import pytest

from rest_jax.agents.limits import Limits
from rest_jax.agents.registry import agent
from rest_jax.config.settings import EngineSettings, ToolsSettings
from rest_jax.core.demonstration import Demonstration, Turn
from rest_jax.core.effects import Role, Sampling
from rest_jax.core.schema import canonical_row
from rest_jax.core.trajectory import Question, context_of
from rest_jax.models import checkpoint
from rest_jax.rollout import store
from rest_jax.rollout.episode import Job
from rest_jax.rollout.runner import rollout
from rest_jax.sampling.engine import Engine
from rest_jax.tools.client import ToolClient
from rest_jax.tools.process import adapter

PASSAGES = [
    {"title": "Vell", "text": "Vell is a town. Ada Orr founded it in 1204."},
    {"title": "Ada Orr", "text": "Ada Orr was born in Sarn. She founded Vell."},
    {"title": "Sarn", "text": "Sarn lies on the Ume."},
]
SHOTS = (
    Demonstration(
        Question("s0", "On which river does Sarn lie?", "Ume"),
        (
            Turn("I need Sarn.", "search", "Sarn", "Sarn: Sarn lies on the Ume."),
            Turn("Sarn lies on the Ume.", "finish", "Ume"),
        ),
    ),
    Demonstration(
        Question("s1", "Who is the mayor of the town where Ivo Dane lives?", "Pia Holt"),
        (
            Turn("I need Ivo Dane.", "search", "Ivo Dane", "Ivo Dane: Ivo Dane lives in Arrow."),
            Turn("I need the mayor of Arrow.", "search", "Arrow", "Arrow: Arrow is a town. Its mayor is Pia Holt."),
            Turn("The mayor is Pia Holt.", "finish", "Pia Holt"),
        ),
    ),
)
QUESTIONS = [
    Question("q0", "Who founded Vell?", "Ada Orr"),
    Question("q1", "When was Vell founded?", "1204"),
    Question("q2", "Where was Ada Orr born?", "Sarn"),
]


@pytest.mark.slow
def test_a_trajectory_depends_on_nothing_around_it(smollm2, tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps(passage) + "\n" for passage in PASSAGES))
    model = checkpoint.load(smollm2, "float32")
    react, settings = agent("react"), ToolsSettings()
    limits = Limits(turns=3, turn_tokens=32, observation_chars=200)
    prompt = react.prompt("base", SHOTS)
    jobs = [Job(question, sample, 0, 0, "toy", "train", "react") for question in QUESTIONS for sample in range(2)]

    def play(some, tools, **shapes):
        engine = Engine(model, EngineSettings(rows=4, widths=(512,), **shapes))
        made = rollout(
            some,
            lambda job: react.run(job.question, prompt, limits),
            {Role.ACTOR: engine},
            tools,
            sampling=Sampling(temperature=0.8),
        )
        return sorted(made, key=lambda trajectory: trajectory.id)

    with adapter(settings, corpus, log=tmp_path / "log") as (url, token), ToolClient(url, settings, token) as tools:
        together = play(jobs, tools, block=8)
        turned = play(jobs[::-1], tools, block=3)
        alone = play(jobs[2:3], tools, block=1)
    rows = [canonical_row(trajectory) for trajectory in together]
    assert [canonical_row(trajectory) for trajectory in turned] == rows
    assert [canonical_row(trajectory) for trajectory in alone] == rows[2:3]
    assert any(trajectory.tool_calls for trajectory in together)
    store.write(tmp_path / "t.parquet", together)
    assert store.read(tmp_path / "t.parquet") == together
    for trajectory in together:
        for call in trajectory.calls:
            assert all(len(said.ids) == len(said.logprobs) > 0 for said in call.candidates)
            assert all(segment.ids is not None for segment in context_of(trajectory.calls, call.index))
