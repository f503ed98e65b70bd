"""Models whose replies have the length that a benchmark asks for: real weights or random ones of a published shape."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np

from rest_jax.core import policy
from rest_jax.core.chat import ChatFormat
from rest_jax.core.effects import Sampling
from rest_jax.core.files import write_json
from rest_jax.core.keys import KeyPath
from rest_jax.models import catalog, checkpoint, decoder
from rest_jax.models.checkpoint import Model
from rest_jax.models.config import Llama3Rope, ModelConfig
from rest_jax.models.tensors import SINGLE, write_params
from rest_jax.sampling.engine import Engine

GREEDY = Sampling(temperature=0.0)

SHAPES = {
    "tiny": ModelConfig(
        vocab=512, width=64, layers=2, heads=4, kv_heads=2, head_dim=16, hidden=128, max_positions=4096, tied=True
    ),
    "small": ModelConfig(
        vocab=49_152, width=256, layers=4, heads=4, kv_heads=2, head_dim=64, hidden=768, max_positions=4096, tied=True
    ),
    "smollm2-135m": ModelConfig(
        vocab=49_152,
        width=576,
        layers=30,
        heads=9,
        kv_heads=3,
        head_dim=64,
        hidden=1536,
        max_positions=8192,
        rope_theta=100_000.0,
        tied=True,
    ),
    "llama-3.2-1b": ModelConfig(
        vocab=128_256,
        width=2048,
        layers=16,
        heads=32,
        kv_heads=8,
        head_dim=64,
        hidden=8192,
        max_positions=131_072,
        rope_theta=500_000.0,
        rope_scaling=Llama3Rope(32.0, 1.0, 4.0, 8192),
        tied=True,
    ),
    "qwen2.5-1.5b": ModelConfig(
        vocab=151_936,
        width=1536,
        layers=28,
        heads=12,
        kv_heads=2,
        head_dim=128,
        hidden=8960,
        max_positions=32_768,
        rope_theta=1_000_000.0,
        norm_eps=1e-6,
        tied=True,
        qkv_bias=True,
        family="qwen2",
    ),
}
"""Shapes of published models, and two small ones; their weights here are random."""

_PIECES = re.compile(r"\s*\w+|\s*[^\w\s]|\s+")


@dataclass(frozen=True)
class WordCodec:
    """A tokenizer for models whose words nobody reads: a word or a mark is a token, its id a hash.

    No token ends a reply, so a reply has all of the tokens that it may have.
    """

    vocab_size: int
    digest: str = "words"
    bos_ids: tuple[int, ...] = ()
    eos_ids: frozenset[int] = frozenset()
    end_of_turn_id: int = 0
    control_ids: frozenset[int] = frozenset()
    chat: ChatFormat | None = None

    def encode_trusted(self, text: str) -> tuple[int, ...]:
        return self.encode_untrusted(text)

    def encode_untrusted(self, text: str) -> tuple[int, ...]:
        return tuple(crc32(piece.encode()) % self.vocab_size for piece in _PIECES.findall(text))

    def decode(self, ids: Sequence[int]) -> str:
        return " word" * len(ids)

    def token_bytes(self, token: int) -> bytes:
        return b" word"


def random_model(shape: str, dtype: str = "float32") -> Model:
    """A model of one of `SHAPES`: random weights, always the same."""
    config = SHAPES[shape]
    params = decoder.init(config, jax.random.key(0), jnp.dtype(dtype))
    return Model(config, params, WordCodec(config.vocab), f"random-{shape}", shape)


def model_of(name: str, dtype: str) -> Model:
    """The model of a shape's name (random weights), of a catalog's name or of a folder. UserError for a name that is
    none of these."""
    return random_model(name, dtype) if name in SHAPES else checkpoint.load(catalog.resolve(name), jnp.dtype(dtype))


def endless(name: str, dtype: str) -> Model:
    """The same, but none of its tokens ends a reply."""
    model = model_of(name, dtype)
    return replace(model, codec=WordCodec(model.config.vocab))


def write(model: Model, folder: Path) -> None:
    """The model as transformers reads it, without a tokenizer."""
    folder.mkdir(parents=True)
    write_params(model.config, model.params, folder / SINGLE)
    write_json(folder / "config.json", {**model.config.to_hf(), "dtype": np.dtype(model.params["embed"].dtype).name})


def prompts(seed: Sequence[int], batch: int, length: int, vocab: int) -> list[tuple[int, ...]]:
    """Random ids: prompts with nothing in common, so that no engine can compute anything once for several."""
    drawn = np.random.default_rng(seed).integers(0, vocab, (batch, length))
    return [tuple(row) for row in drawn.tolist()]


def replies(engine: Engine, contexts: Sequence[tuple[int, ...]], tokens: int) -> list[tuple[int, ...]]:
    """Greedy replies of so many tokens, all at once; nothing stays behind. ValueError when one is shorter."""

    def request(place: int) -> policy.Request:
        key = KeyPath(0, 0, "", place, 0, 0, 0)
        return policy.Request(place, place, contexts[place], key, tokens, stop=(), sampling=GREEDY)

    ended = dict(policy.replies(engine, map(request, range(len(contexts)))))
    said = [ended[place].ids for place in range(len(contexts))]
    if any(len(ids) != tokens for ids in said):
        raise ValueError(f"a reply of {tokens} tokens ended after {min(map(len, said))}: {ended[0].finish}")
    return said
