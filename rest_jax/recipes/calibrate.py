"""What this machine does, measured on a few tokens before a run says how long it will take."""

from __future__ import annotations

import time

from rest_jax.core.effects import Sampling
from rest_jax.core.keys import KeyPath
from rest_jax.core.policy import Policy, Request, replies
from rest_jax.recipes.plan import Rates
from rest_jax.sampling.replicas import Replicas

TRAINED = 8.0
"""A training step's seconds per token, in those of reading a prompt: three times the multiplications, and two to three
times that in time on the CPUs measured (docs/results.md)."""
LEAST_PREFILL = 0.1
"""Of a round that reads a prompt and samples a token: reading is at least this share, whatever noise says."""


def measured_rates(policy: Replicas, *, prompt_tokens: int = 40, reply_tokens: int = 8) -> Rates:
    """Tokens per second with all the policy's rows busy, of sampling and of reading prompts, and of training as
    predicted from these. Memory is allocated before the clock runs, and so should all be compiled."""
    rows = policy.rows
    _round(policy, len(policy.engines), prompt_tokens + 2, reply_tokens)
    block_s = _round(policy, rows, 2, 1)
    whole_s = _round(policy, rows, prompt_tokens + 2, 1)
    prefill_s = max(whole_s - block_s, LEAST_PREFILL * whole_s)
    reply_s = _round(policy, rows, 2, reply_tokens)
    prefilled = rows * prompt_tokens / prefill_s
    return Rates(rows * reply_tokens / reply_s, prefilled, trained=prefilled / TRAINED, rows=rows)


def _round(policy: Policy, requests: int, prompt_tokens: int, reply_tokens: int) -> float:
    """Seconds for that many equal requests at once."""
    token = max(policy.codec.encode_untrusted(" the"))

    def request(place: int) -> Request:
        # Each begins with another token, so that no request finds its prefix computed by another.
        ids = (token - place, *[token] * (prompt_tokens - 1))
        key = KeyPath(0, 0, "calibration", place, 0, 0, 0)
        return Request(place, place, ids, key, reply_tokens, (), Sampling(temperature=1.0))

    begun = time.perf_counter()
    for _ in replies(policy, map(request, range(requests))):
        pass
    return time.perf_counter() - begun
