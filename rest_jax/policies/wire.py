"""The shapes of OpenAI's completions and chat completions, and what vLLM adds to them: token ids.

Sources: OpenAI's API reference (completions, chat completions); vLLM's protocol for `return_token_ids`, `token_ids`,
`prompt_token_ids`, `top_k` and `min_p`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rest_jax.config.policies import EndpointSettings
from rest_jax.core.canonical import digest
from rest_jax.core.keys import KeyPath
from rest_jax.core.policy import Request
from rest_jax.core.text import valid_unicode
from rest_jax.policies.turns import Message

CHARS_A_TOKEN = 256
"""No token stands for more characters: a reply that is longer by its budget is garbage."""

STOPS = 4
"""OpenAI takes no more stop strings; at the others a reply is cut here."""


@dataclass(frozen=True)
class Answer:
    """One reply as the endpoint gave it, and as it is recorded."""

    text: str
    finish: Literal["stop", "length", "context"]
    """context: there was no room for it."""
    ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    """f32, one for each of `ids`."""


@dataclass(frozen=True)
class Usage:
    """Tokens as the endpoint counts them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.prompt_tokens + other.prompt_tokens, self.completion_tokens + other.completion_tokens)

    def since(self, before: Usage) -> Usage:
        """What came on top."""
        return Usage(self.prompt_tokens - before.prompt_tokens, self.completion_tokens - before.completion_tokens)


def seed_of(key: KeyPath) -> int:
    """31 bits that name a candidate, for endpoints that take a seed."""
    return int(digest(key.words())[:8], 16) >> 1


def completion(settings: EndpointSettings, request: Request, prompt: str | Sequence[int], n: int) -> dict[str, Any]:
    """The body of `POST /completions`. Where the prompt is ids, ids and log-probs are wanted back."""
    body = {"prompt": prompt} if isinstance(prompt, str) else {"prompt": list(prompt), **_TOKENS}
    return {**_common(settings, request, n), **body}


def chat_completion(
    settings: EndpointSettings, request: Request, messages: Sequence[Message], n: int
) -> dict[str, Any]:
    """The body of `POST /chat/completions`."""
    return {**_common(settings, request, n), "messages": list(messages)}


def echo(settings: EndpointSettings, ids: Sequence[int]) -> dict[str, Any]:
    """The body of `POST /completions` that asks for the log-probs of the prompt's own tokens."""
    return {"model": settings.model, "prompt": list(ids), "max_tokens": 1, "echo": True, "logprobs": 1}


def probe(settings: EndpointSettings, text: str) -> dict[str, Any]:
    """The body of `POST /completions` that shows which ids the endpoint makes of a text."""
    return {"model": settings.model, "prompt": text, "max_tokens": 1, "temperature": 0, **_TOKENS}


def answers_of(reply: Any, request: Request, *, ids: bool) -> list[Answer]:
    """The replies in a response's choices, at least one. Raises ValueError, or what `reply[…]` raises, for others."""
    choices = sorted(reply["choices"], key=lambda choice: choice["index"])
    if not choices:
        raise ValueError("a response without choices")
    return [_answer(choice, request, ids=ids) for choice in choices]


def echoed(reply: Any, tokens: int) -> tuple[float, ...]:
    """The log-probs (f32) of the last of `tokens` prompt tokens but the first, which has none."""
    found = _logprobs(reply["choices"][0]["logprobs"]["token_logprobs"][1:tokens])
    if len(found) != tokens - 1:
        raise ValueError(f"{len(found)} log-probs for {tokens} tokens")
    return found


def prompt_ids_of(reply: Any) -> tuple[int, ...] | None:
    """The ids that the endpoint made of a text; None where it does not tell them, or the reply's."""
    choice = reply["choices"][0]
    if not isinstance(choice.get("token_ids"), list) or not isinstance(choice.get("prompt_token_ids"), list):
        return None
    return tuple(choice["prompt_token_ids"])


def models_of(reply: Any) -> list[str]:
    """The names of the models that an endpoint lists."""
    return [str(model["id"]) for model in reply["data"]]


def usage_of(reply: Any) -> Usage:
    """What the endpoint says that a request took; nothing where it does not."""
    usage = reply.get("usage")
    counted = usage if isinstance(usage, Mapping) else {}
    named = (counted.get(name) for name in ("prompt_tokens", "completion_tokens"))
    return Usage(*(count if isinstance(count, int) else 0 for count in named))


_TOKENS: Mapping[str, Any] = {"logprobs": 1, "return_token_ids": True}


def _common(settings: EndpointSettings, request: Request, n: int) -> dict[str, Any]:
    """What both shapes share. What only some servers know is named only where it is wanted."""
    sampling = request.sampling
    wanted = {"n": (n, 1), "top_p": (sampling.top_p, 1.0), "top_k": (sampling.top_k, 0), "min_p": (sampling.min_p, 0.0)}
    return {
        "model": settings.model,
        settings.length: request.max_tokens,
        "temperature": sampling.temperature,
        "seed": seed_of(request.key),
        **({"stop": list(request.stop[:STOPS])} if request.stop else {}),
        **{name: value for name, (value, default) in wanted.items() if value != default},
    }


def _answer(choice: Mapping[str, Any], request: Request, *, ids: bool) -> Answer:
    finish = choice["finish_reason"]
    if finish not in ("stop", "length"):
        raise ValueError(f"a reply that ended as {str(finish)[:40]!r}")
    text = (choice["text"] if "text" in choice else choice["message"]["content"]) or ""
    if not isinstance(text, str) or len(text) > CHARS_A_TOKEN * request.max_tokens:
        raise ValueError("a reply that is no text of its length")
    if not ids:
        return Answer(valid_unicode(text), finish)
    tokens, logprobs = choice["token_ids"], _logprobs(choice["logprobs"]["token_logprobs"])
    if len(tokens) != len(logprobs) or not all(type(token) is int and token >= 0 for token in tokens):
        raise ValueError("ids that do not go with their log-probs")
    if len(tokens) > request.max_tokens:
        raise ValueError(f"{len(tokens)} tokens where {request.max_tokens} were asked for")
    return Answer(valid_unicode(text), finish, tuple(tokens), logprobs)


def _logprobs(values: Sequence[Any]) -> tuple[float, ...]:
    with np.errstate(over="ignore"):
        floats = np.asarray(values, np.float32)
    if floats.ndim != 1 or not np.isfinite(floats).all() or (floats > 0).any():
        raise ValueError("log-probs that are none")
    return tuple(floats.tolist())
