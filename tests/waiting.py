"""Waiting for what another process does, as long as it takes and no longer."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(holds: Callable[[], bool], what: str, within_s: float = 60.0) -> None:
    """Returns as soon as it holds; AssertionError, naming it, when it does not in time."""
    give_up = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < give_up, f"not in {within_s:g} s: {what}"
        time.sleep(0.01)
