"""Settings of policies that live elsewhere: models behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from rest_jax.config.limits import AboveZero, Natural, Positive
from rest_jax.config.plain import FREE
from rest_jax.core.http import url_conflicts


@dataclass(frozen=True)
class EndpointSettings:
    """A model behind an OpenAI-compatible endpoint."""

    url: str = field(metadata=FREE)
    """The endpoint's base address, such as http://127.0.0.1:8000/v1."""
    model: str
    """The model's name there. It stands for the weights, which nobody here has seen."""
    style: Literal["completions", "chat"] = "completions"
    """completions: the transcript is continued as text; chat: it is sent as turns, to models that only chat."""
    tokenizer: str | None = None
    """A name of `rest-jax models list` or a folder with the tokenizer of the endpoint's model, if it returns token ids:
    then prompts go and replies come as ids, with their log-probs. null: text alone."""
    key_variable: str | None = field(default=None, metadata=FREE)
    """The environment variable that holds the key; null sends none. It goes by https, or to a machine nearby."""
    concurrency: Positive = field(default=16, metadata=FREE)
    """Requests in flight at once."""
    timeout_s: AboveZero = field(default=120.0, metadata=FREE)
    """The most seconds of one request."""
    retries: Natural = field(default=5, metadata=FREE)
    """How often a request that may do better is sent again, with a pause of full jitter that obeys Retry-After."""
    context: Positive | None = None
    """The most tokens of its own that a transcript may have, prompt and reply; null leaves that to the endpoint."""
    length: Literal["max_tokens", "max_completion_tokens"] = field(default="max_tokens", metadata=FREE)
    """What the endpoint calls the most tokens of a reply; some chat models take the second name alone."""
    replay: str | None = field(default=None, metadata=FREE)
    """A file of recorded replies (a run's replies/ROLE.jsonl) that answers instead; nothing else is asked."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from url_conflicts(self.url, self.key_variable)
        if "?" in self.url or "#" in self.url:
            yield "url", "ends in a query or a fragment; write the address that /completions is appended to"
        if self.tokenizer is not None and self.style == "chat":
            yield "tokenizer", "needs style completions: a chat endpoint makes the prompt's tokens by its own template"
        if self.context is not None and self.tokenizer is None:
            yield "context", "counts tokens, which only tokenizer tells; leave one out, or name both"


@dataclass(frozen=True)
class PoliciesSettings:
    """Other policies than the run's own model, by their role."""

    teacher: EndpointSettings | None = None
    """Whom `grow.policy: teacher` has sample in the model's place, and agents ask as their teacher."""
    judge: EndpointSettings | None = None
    """Whom agents ask as their judge."""

    @property
    def key_variables(self) -> frozenset[str]:
        """The environment variables with their keys."""
        return frozenset(one.key_variable for one in (self.teacher, self.judge) if one and one.key_variable)
