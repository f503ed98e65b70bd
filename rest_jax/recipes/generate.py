"""Continue prompts with a model, tokens and log-probs included: no agent, no tools."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rest_jax.core.effects import Candidate, Finish, Sampling
from rest_jax.core.errors import UserError
from rest_jax.core.keys import KeyPath
from rest_jax.core.policy import Request, replies
from rest_jax.sampling.replicas import Replicas


@dataclass(frozen=True)
class Completion:
    """What a model said after a prompt."""

    prompt: str
    ids: tuple[int, ...]
    """The sampled tokens, up to and including the one in which a stop string begins, or the end-of-sequence token."""
    text: str
    """Of the ids; it ends before a stop string."""
    logprobs: tuple[float, ...]
    """float32, one for each id: untempered, over the whole vocabulary."""
    finish: Finish
    """Why it ended: `length` is `max_tokens` used up, `context` a prompt that left no room."""


def generate(
    policy: Replicas,
    prompts: Sequence[str],
    *,
    max_tokens: int,
    sampling: Sampling,
    stop: Sequence[str],
    seed: int,
) -> Iterator[Completion]:
    """One completion for each prompt, in order. Prompts are trusted: control tokens in them are control tokens.

    What is drawn for a prompt depends on its text and place, not on the prompts around it. Raises UserError for an
    empty prompt where the model has no token to begin with.
    """
    if "" in prompts and not policy.codec.bos_ids:
        raise UserError(
            f"generate: prompt {list(prompts).index('') + 1} is empty, and this model has no token to begin with; "
            f"leave it out"
        )

    def request(place: int) -> Request:
        prompt = prompts[place]
        ids = (*policy.codec.bos_ids, *policy.codec.encode_trusted(prompt))
        return Request(place, place, ids, KeyPath(seed, 0, prompt, place, 0, 0, 0), max_tokens, tuple(stop), sampling)

    done: dict[int, Candidate] = {}
    given = 0
    for place, candidate in replies(policy, map(request, range(len(prompts)))):
        done[place] = candidate
        while given in done:
            said = done.pop(given)
            yield Completion(prompts[given], said.ids, said.text, said.logprobs or (), said.finish)
            given += 1
