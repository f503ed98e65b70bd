"""Continue prompts with a model, tokens and log-probs included: no agent, no tools."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rest_jax.core.effects import Candidate, Sampling
from rest_jax.core.keys import KeyPath
from rest_jax.core.policy import Policy, Request


@dataclass(frozen=True)
class Continued:
    prompt: str
    candidate: Candidate


def generate(
    policy: Policy, prompts: Sequence[str], *, max_tokens: int, sampling: Sampling, seed: int
) -> Iterator[Continued]:
    """One continuation per prompt, in order. Prompts are trusted: control tokens in them are control tokens.

    What is drawn for a prompt depends on its text and place, not on the prompts around it.
    """
    waiting = deque(enumerate(prompts))
    done: dict[int, Candidate] = {}
    opened = closed = given = 0
    while given < len(prompts):
        while waiting and opened - closed < policy.sessions:
            place, prompt = waiting.popleft()
            ids = (*policy.codec.bos_ids, *policy.codec.encode_trusted(prompt))
            key = KeyPath(seed, 0, prompt, place, 0, 0, 0)
            policy.submit(Request(place, place, ids, key, max_tokens, (), sampling))
            opened += 1
        for place, candidate in policy.step():
            done[place] = candidate
            policy.release(place)
            closed += 1
        while given in done:
            yield Continued(prompts[given], done.pop(given))
            given += 1
