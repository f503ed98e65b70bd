"""A whole run small enough for a test: a random two-layer model with SmolLM2's tokenizer, on real Atlas and tools."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from rest_jax.agents.search_agent.grammar import code
from rest_jax.agents.search_agent.values import Answer
from rest_jax.core.effects import Candidate, Finish, Role, Status
from rest_jax.core.trajectory import Call, Trajectory
from rest_jax.models import checkpoint
from rest_jax.models.config import ModelConfig
from rest_jax.models.decoder import abstract_params

TINY = ModelConfig(
    vocab=49_152, width=32, layers=2, heads=4, kv_heads=2, head_dim=8, hidden=64, max_positions=2048, tied=True
)

CONFIG = """\
name: tiny
model: {{name: {model}}}
agent: {{turns: 4, turn_tokens: 40}}
engine: {{rows: 8, block: 4, widths: [768]}}
pilot: {{demonstrations: 4, improve: {{steps: 4, rows: 2, length: 320, warmup: 0, checkpoint_every: 2}}}}
generations:
  - grow: {{questions: 6, samples: 2}}
    improve: {{thresholds: [0.5], steps: 4, rows: 2, length: 320, warmup: 0, checkpoint_every: 2}}
evaluate: {{prompted: 4, pilot: 4, gate: 3, generations: 4, final: 4, split: select, floors: [most_frequent]}}
"""


def write_tiny_model(folder: Path, tokenizer_from: Path, vocab: int = TINY.vocab) -> Path:
    """A model folder in Hugging Face's layout, with random weights."""
    rng = np.random.default_rng(0)
    config = replace(TINY, vocab=vocab)
    params = jax.tree.map(lambda leaf: np.asarray(rng.normal(0, 0.05, leaf.shape), np.float32), abstract_params(config))
    checkpoint.save(config, params, folder, tokenizer_from=tokenizer_from)
    return folder


def write_config(path: Path, model: Path) -> Path:
    """A config of a run that takes seconds."""
    path.write_text(CONFIG.format(model=model), encoding="utf-8")
    return path


def of_the_search_agent(run: Path, copy: Path) -> Path:
    """A copy of a run whose settings say that its agent is the search agent; its trajectories are the test's to
    change."""
    shutil.copytree(run, copy)
    settings = copy / "config.yaml"
    settings.write_text(settings.read_text().replace("name: react", "name: search_agent"))
    return copy


def drafting(trajectory: Trajectory, draft: str, answer: str | None) -> Trajectory:
    """The trajectory as a search agent's, that drafted one answer and gave another (None: its check was malformed)."""
    text = f"ACTION_SELECTED: Answer = {code(Answer('I know.', f'{draft} [link_id=1]'))}"
    call = Call(0, "draft", 0, Role.ACTOR, (), (Candidate((7,), (-1.0,), text, Finish.STOP),))
    status = Status.MALFORMED if answer is None else Status.FINISHED
    return replace(trajectory, calls=(call,), answer=answer, status=status)
