"""A small world for training: a byte tokenizer, trajectories of any shape, and a decoder of a few thousand weights."""

from __future__ import annotations

import re
from itertools import count
from math import prod

import numpy as np
from hypothesis import strategies as st

from rest_jax.core.effects import Candidate, Finish, Role, Status
from rest_jax.core.trajectory import Call
from rest_jax.core.transcript import Segment, Source
from rest_jax.models.config import ModelConfig
from rest_jax.training.examples import Example
from tests.trajectories import trajectory as played

BOS, EOS = 256, 257
CONFIG = ModelConfig(
    vocab=96, width=16, layers=2, heads=4, kv_heads=2, head_dim=4, hidden=32, max_positions=64, tied=True
)


class ByteCodec:
    """A token is a byte; `<eos>` is a control token of trusted text."""

    vocab_size = 258
    bos_ids = (BOS,)
    eos_ids = frozenset({0, EOS})
    end_of_turn_id = EOS
    control_ids = frozenset({BOS, EOS})

    def __init__(self, digest="bytes"):
        self.digest = digest

    def encode_trusted(self, text):
        parts = text.split("<eos>")
        return tuple(token for part in parts for token in (*part.encode(), EOS))[:-1]

    def encode_untrusted(self, text):
        return tuple(text.encode())

    def decode(self, ids):
        return bytes(token for token in ids if token < BOS).decode(errors="replace")

    def token_bytes(self, token):
        return bytes([token]) if token < BOS else b""


def trajectory(calls, status=Status.FINISHED, tokenizer_digest="bytes"):
    return played(status=status, answer=None, calls=tuple(calls), tokenizer_digest=tokenizer_digest)


@st.composite
def trajectories(draw):
    """Any tree of two to four calls with two candidates each; every token of a trajectory has an id of its own."""
    numbers = count(1000)
    floats = st.floats(width=32, max_value=0.0, allow_nan=False)

    def tokens(least=0):
        ids = tuple(next(numbers) for _ in range(draw(st.integers(least, 4))))
        logprobs = tuple(draw(st.lists(floats, min_size=len(ids), max_size=len(ids))))
        return ids, logprobs if draw(st.booleans()) else None

    def segment():
        return Segment(draw(st.sampled_from([Source.PROMPT, Source.TOOL])), "s", tokens()[0], None, draw(st.booleans()))

    def call(index):
        candidates = tuple(Candidate(*tokens(least=1), "c", draw(st.sampled_from(Finish))) for _ in range(2))
        return Call(
            index,
            "act",
            0,
            draw(st.sampled_from([Role.ACTOR, Role.ACTOR, Role.JUDGE])),
            tuple(segment() for _ in range(draw(st.integers(0, 3)))),
            candidates,
            draw(st.integers(0, 1)),
            draw(st.sampled_from([None, *range(index)])),
            draw(st.integers(0, 1)),
        )

    calls = [call(index) for index in range(draw(st.integers(2, 4)))]
    return trajectory(calls, draw(st.sampled_from([Status.FINISHED, Status.STEP_LIMIT])))


def example(ids, learn, weight=1.0):
    ids = np.asarray(ids, np.int32)
    weights = np.float32(weight) * np.asarray(learn, np.float32)
    return Example(ids, weights, np.full(len(ids), np.nan, np.float32), "q#0", False)


def largest_array(program):
    """Elements of the largest array of a compiled program."""
    shapes = re.findall(r"\b[a-z]+\d+\[([\d,]+)\]", program.as_text())
    return max(prod(map(int, shape.split(","))) for shape in shapes)


def random_examples(n, longest=20, seed=0):
    draw = np.random.default_rng(seed)
    made = []
    for length in draw.integers(4, longest + 1, n):
        learn = draw.random(length) < 0.5
        learn[-1] = True
        made.append(example(draw.integers(0, CONFIG.vocab, length), learn))
    return made
