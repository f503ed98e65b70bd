"""Numbers on the command line, held to the limits that settings are held to."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, get_args

from rest_jax.config.limits import faults


def number(kind: Any) -> Callable[[str], float]:
    """An argument's type from a limited one, such as `Positive`."""
    plain = get_args(kind)[0]
    expected = "a whole number" if plain is int else "a number"

    def read(text: str) -> float:
        try:
            value = plain(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected {expected}, got '{text}'") from None
        for fault in faults(value, kind):
            raise argparse.ArgumentTypeError(fault.message)
        return value

    return read
