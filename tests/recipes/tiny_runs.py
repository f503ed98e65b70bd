"""A whole run small enough for a test: a random two-layer model with SmolLM2's tokenizer, on real Atlas and tools."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

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


def write_tiny_model(folder: Path, tokenizer_from: Path) -> Path:
    """A model folder in Hugging Face's layout, with random weights."""
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: np.asarray(rng.normal(0, 0.05, leaf.shape), np.float32), abstract_params(TINY))
    checkpoint.save(TINY, params, folder, tokenizer_from=tokenizer_from)
    return folder


def write_config(path: Path, model: Path) -> Path:
    """A config of a run that takes seconds."""
    path.write_text(CONFIG.format(model=model), encoding="utf-8")
    return path
