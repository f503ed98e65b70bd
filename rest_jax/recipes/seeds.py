"""Seeds derived from names, so that no two parts of a run share randomness by accident."""

from __future__ import annotations

from rest_jax.core.canonical import digest


def derived_seed(seed: int, *parts: str | int) -> int:
    """A 31-bit seed for the part of a run that `parts` names."""
    return int(digest([seed, *parts])[:8], 16) & 0x7FFFFFFF
