"""The settings of what stands between a request and a tool."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from rest_jax.config.limits import AboveZero, NotNegative, Positive


@dataclass(frozen=True)
class CacheSettings:
    """Answers kept on disk: those of deterministic tools, of web searches and pages, and of an MCP server's tools that
    its settings name `repeatable`. All others are always asked."""

    path: str | None = None
    """An SQLite file; null is tools.sqlite in the cache folder ($REST_JAX_CACHE)."""
    megabytes: Positive = 1024
    """The most room that answers take; the least recently used ones go first."""
    ttl_s: AboveZero = 86_400.0
    """How long an answer is kept where the tool is not deterministic, as a web search; others are kept for good."""


@dataclass(frozen=True)
class ProviderLimits:
    """How much one provider is asked, however many tools use it."""

    provider: str
    """Its name, as `provider` of the tools that use it."""
    per_second: AboveZero | None = None
    """Calls per second, by a token bucket; null sets no rate."""
    burst: Positive = 1
    """Calls that may come at once after a quiet time."""
    at_once: Positive = 32
    """Calls in progress at one time."""


@dataclass(frozen=True)
class RetrySettings:
    """How a failure that may pass is tried again. A stateful tool's never is: the call may have had its effect."""

    attempts: Positive = 3
    """Attempts in all."""
    first_s: AboveZero = 0.5
    """The longest pause before the second attempt; it doubles with each one (full jitter)."""
    last_s: AboveZero = 8.0
    """The longest pause of all."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.last_s < self.first_s:
            yield "last_s", f"{self.last_s:g} is less than first_s ({self.first_s:g}); raise it"


@dataclass(frozen=True)
class BreakerSettings:
    """When a provider that fails is left alone."""

    failures: Positive = 5
    """Failures in a row that open the circuit."""
    pause_s: AboveZero = 5.0
    """How long it stays open before one call tries again. Calls wait for it while they have time."""


@dataclass(frozen=True)
class ServiceSettings:
    """What stands between a request and a tool."""

    cache: CacheSettings | None = field(default_factory=CacheSettings)
    """Answers kept on disk; null keeps none."""
    limits: tuple[ProviderLimits, ...] = ()
    """Limits of providers that need others than their own defaults."""
    retries: RetrySettings = field(default_factory=RetrySettings)
    breaker: BreakerSettings = field(default_factory=BreakerSettings)
    dollars: NotNegative | None = None
    """What the calls of one run may cost in all, by the tools' own `cost`; null sets no budget."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        names = [limits.provider for limits in self.limits]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield "limits", f"provider {name} stands there {names.count(name)} times; leave one"
