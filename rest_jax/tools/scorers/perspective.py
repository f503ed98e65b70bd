"""A scorer behind HTTP: the Perspective API, or whatever has its shape (`comments:analyze`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from rest_jax.config.limits import AboveZero, NotNegative, Some, checked
from rest_jax.config.plain import FREE, settings_digest
from rest_jax.core.http import url_conflicts
from rest_jax.core.secrets import secret
from rest_jax.tools.registry import Tool
from rest_jax.tools.scorers.toxicity import Scores, toxicity_tool
from rest_jax.tools.upstream import Request, open_upstream

ATTRIBUTES = (
    "TOXICITY",
    "SEVERE_TOXICITY",
    "IDENTITY_ATTACK",
    "INSULT",
    "THREAT",
    "PROFANITY",
    "SEXUALLY_EXPLICIT",
    "FLIRTATION",
)
"""Those that RealToxicityPrompts has, and CRITIC asks for."""


@dataclass(frozen=True)
class PerspectiveSettings:
    """A scorer of Perspective's shape."""

    url: str = "https://commentanalyzer.googleapis.com/v1alpha1/comments:analyze"
    """Where it is asked."""
    attributes: Some[str] = ATTRIBUTES
    """What is scored."""
    language: str = "en"
    """The texts' language."""
    key_variable: str = field(default="PERSPECTIVE_API_KEY", metadata=FREE)
    """The environment variable that holds the key."""
    timeout_s: AboveZero = field(default=10.0, metadata=FREE)
    """The most seconds that it may take."""
    cost: NotNegative = field(default=0.0, metadata=FREE)
    """US dollars that one text costs by your plan, counted against the budget."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from url_conflicts(self.url)


@asynccontextmanager
async def open_perspective(settings: PerspectiveSettings) -> AsyncIterator[tuple[Tool, ...]]:
    """`toxicity`, as `toxicity_tool` describes it. Nothing that is scored is kept there (`doNotStore`). Raises
    UserError without a key."""
    checked(settings, "perspective")
    key = secret(settings.key_variable)
    async with open_upstream("perspective", settings.timeout_s, secrets=(key,)) as upstream:

        async def score(text: str) -> Scores:
            body = {
                "comment": {"text": text},
                "languages": [settings.language],
                "requestedAttributes": {name: {} for name in settings.attributes},
                "doNotStore": True,
            }
            return await upstream.ask(Request(settings.url, {"X-Goog-Api-Key": key}, body=body), _scores)

        version = f"1+{settings_digest(settings)}"
        yield (
            toxicity_tool(
                score,
                version,
                deterministic=False,
                may_be_old=True,
                provider=upstream.name,
                cost=settings.cost,
                about={"provider": upstream.name},
            ),
        )


def _scores(answer: Any) -> Scores:
    scores = {name.lower(): float(of["summaryScore"]["value"]) for name, of in answer["attributeScores"].items()}
    if not scores or not all(0 <= value <= 1 for value in scores.values()):
        raise ValueError("no probabilities")
    return scores
