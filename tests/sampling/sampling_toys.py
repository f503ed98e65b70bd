"""A toy codec and a tiny random model for the sampler's tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import jax
import numpy as np

from rest_jax.config.settings import EngineSettings
from rest_jax.core.effects import Candidate, Sampling
from rest_jax.core.keys import KeyPath
from rest_jax.core.policy import Request
from rest_jax.models import decoder
from rest_jax.models.checkpoint import Model
from rest_jax.models.config import ModelConfig
from rest_jax.sampling.engine import Engine

WORDS = (
    *(bytes([byte]) for byte in range(256)),
    b"]\n",
    b"\n\n",
    b"\nObs",
    b"Observation",
    b" Finish[",
    b"search",
    "é\n".encode(),
    b"",  # <eos>
)
EOS = len(WORDS) - 1
SAMPLING = Sampling(temperature=1.0)


@dataclass(frozen=True)
class ToyCodec:
    """Bytes, a few longer tokens, and one end-of-sequence token; encoding takes the longest token that fits."""

    digest: str = "toy"
    vocab_size: int = len(WORDS)
    bos_ids: tuple[int, ...] = ()
    eos_ids: frozenset[int] = frozenset({EOS})
    end_of_turn_id: int = EOS
    control_ids: frozenset[int] = frozenset({EOS})
    _by_length: tuple[int, ...] = field(default=tuple(sorted(range(EOS), key=lambda i: -len(WORDS[i]))))

    def encode_trusted(self, text: str) -> tuple[int, ...]:
        return self.encode_untrusted(text)

    def encode_untrusted(self, text: str) -> tuple[int, ...]:
        rest, ids = text.encode(), []
        while rest:
            ids.append(next(i for i in self._by_length if rest.startswith(WORDS[i])))
            rest = rest[len(WORDS[ids[-1]]) :]
        return tuple(ids)

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(WORDS[i] for i in ids).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        return WORDS[token]


CODEC = ToyCodec()
CONFIG = ModelConfig(
    vocab=len(WORDS), width=64, layers=2, heads=4, kv_heads=2, head_dim=16, hidden=128, max_positions=256
)
SETTINGS = EngineSettings(rows=6, block=4, widths=(64, 128), chunk=32)


def tiny_model(seed: int = 0) -> Model:
    """Random weights, large enough that the distribution is far from uniform."""
    params = jax.tree.map(lambda leaf: leaf * 5, decoder.init(CONFIG, jax.random.key(seed)))
    return Model(CONFIG, params, CODEC, f"tiny-{seed}", "tiny")


def request(
    id: int,
    ids: Sequence[int],
    *,
    session: int | None = None,
    max_tokens: int = 12,
    stop: tuple[str, ...] = (),
    sampling: Sampling = SAMPLING,
    candidate: int = 0,
) -> Request:
    """A request whose key names its session, not its id."""
    session = id if session is None else session
    key = KeyPath(7, 0, f"q{session}", 0, 0, 0, candidate)
    return Request(id, session, tuple(ids), key, max_tokens, stop, sampling)


def prompt(seed: int, length: int) -> tuple[int, ...]:
    """Random ordinary ids."""
    return tuple(np.random.default_rng(seed).integers(32, 120, length).tolist())


def run(engine: Engine, *requests) -> dict[int, Candidate]:
    """Submits all, steps until done."""
    for one in requests:
        engine.submit(one)
    return finish(engine)


def finish(engine: Engine) -> dict[int, Candidate]:
    results: dict[int, Candidate] = {}
    while engine.busy:
        results |= dict(engine.step())
    return results
