"""More trajectories than rows, through the runner and the engine: tools that answer late and in any order."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from rollout_world import ByteCodec, LateTools, article, jobs, roll

from rest_jax.config.settings import EngineSettings
from rest_jax.core.effects import CallTool, Generate, Score, Status, finished, stopped
from rest_jax.core.schema import canonical_row
from rest_jax.core.transcript import Transcript
from rest_jax.models import decoder
from rest_jax.models.checkpoint import Model
from rest_jax.models.config import ModelConfig
from rest_jax.sampling.engine import Engine

CONFIG = ModelConfig(
    vocab=ByteCodec.vocab_size, width=32, layers=1, heads=2, kv_heads=1, head_dim=16, hidden=64, max_positions=256
)
TURNS = 4


def agent(job):
    """Looks something up in every turn, whatever it said, and weighs two candidates in every other."""
    transcript = Transcript().prompted("Q: ").quoted(job.question.text)
    for turn in range(TURNS):
        reply = yield Generate(transcript, step="act", max_tokens=5 + turn, n=1 + turn % 2)
        found = yield CallTool("search", {"query": str(sum(reply.reply.ids))})
        transcript = transcript.said(reply).prompted("\n").observed(found.content)
    return finished(reply.text)


@pytest.fixture(scope="module")
def model() -> Model:
    params = jax.tree.map(lambda leaf: leaf * 5, decoder.init(CONFIG, jax.random.key(0)))
    return Model(CONFIG, params, ByteCodec(), "tiny", "tiny")


def play(model: Model, *, resident: int | None, seed: int) -> tuple[list[dict], Engine]:
    settings = EngineSettings(rows=4, block=4, widths=(128, 256), chunk=32, resident=resident)
    engine = Engine(model, settings)
    made = roll(jobs(6, 2), engine, LateTools(article, seed), lambda job: agent(job))
    return [canonical_row(trajectory) for trajectory in made], engine


def test_trajectories_do_not_depend_on_how_many_are_resident_nor_on_the_tools_latency(model):
    expected, engine = play(model, resident=None, seed=0)
    assert engine.sessions == 4
    assert engine.stats.parks == 0
    assert all(len(row["calls"]) == TURNS for row in expected)
    for resident, seed in ((8, 1), (24, 2)):
        got, engine = play(model, resident=resident, seed=seed)
        assert engine.sessions == resident
        assert engine.stats.unparks > 0
        assert got == expected


def test_an_agent_is_told_why_a_score_has_no_numbers(model):
    def judge(job):
        scored = yield Score(Transcript().prompted("Q"), ("ab", "\u00e9a"))
        assert (scored.ids[0], scored.ids[1]) == ((97, 98), ())
        return stopped(Status.NONFINITE, scored.why)

    embed = model.params["embed"].at["\u00e9".encode()[1]].set(jnp.nan)
    engine = Engine(replace(model, params={**model.params, "embed": embed}), EngineSettings(rows=2, widths=(128,)))
    (made,) = roll(jobs(1, 1), engine, LateTools(article), judge)
    assert made.why == "no finite number for token 1 of what is scored: not finite in the weights are embed"
