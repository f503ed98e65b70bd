"""How much each provider takes from one customer on its smallest plan, by its own terms; whoever pays for more says so.

Sources, November 2026. Brave: "X-RateLimit-Limit: 1, 15000" in what it documents of its headers. Wikimedia:
API:Etiquette ("in series rather than in parallel"); the 3 a second are a guess, below what it grants to programs that
name themselves. Serper: its pricing page, from memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict


class Terms(TypedDict):
    """Limits of one provider."""

    per_second: float
    """Calls per second."""
    burst: int
    """Calls that may come at once after a quiet time."""
    at_once: int
    """Calls in progress at one time."""


TERMS: Mapping[str, Terms] = {
    "serper": {"per_second": 50.0, "burst": 10, "at_once": 32},
    "brave": {"per_second": 1.0, "burst": 1, "at_once": 1},
    "wikipedia": {"per_second": 3.0, "burst": 3, "at_once": 1},
}
"""By the name that a tool gives as its provider."""
