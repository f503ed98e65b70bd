"""What is said when a device has no memory left, and which settings take less of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jax

from rest_jax.config.settings import EngineSettings
from rest_jax.core.errors import UserError


def fewer_rows(engine: EngineSettings) -> str:
    """How to have smaller caches."""
    fewer = f"engine.rows ({engine.rows})" + (", engine.resident" if engine.parkable else "")
    return f"lower {fewer} or the widest of engine.widths ({max(engine.widths)})"


@contextmanager
def mendable(engine: EngineSettings) -> Iterator[None]:
    """Raises UserError, naming the settings to turn, where XLA finds no memory to compile or to run with."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        told = str(error).partition("\n")[0]
        if "RESOURCE_EXHAUSTED" not in told:
            raise
        raise UserError(f"the device has no memory left ({told}); {fewer_rows(engine)}") from error
