"""What a sampler's device works: every program that a sampler runs, waited for one by one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import jax

from rest_jax.sampling import steps


@contextmanager
def device_seconds() -> Iterator[Counter[str]]:
    """While it is open, each program of `sampling.steps` is waited for, and its seconds are added up by its name.

    The arrival of a program's arguments and its dispatch are in them, so they are an upper bound of what the device
    computes. The host's work no longer runs beside the device's: the time of the whole means nothing. Allocations, and
    moves of parked rows to the host's memory, are no programs of `steps` and not counted.
    """
    seconds: Counter[str] = Counter()

    def waited_for(name: str, program: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            began = time.perf_counter()
            done = jax.block_until_ready(program(*arguments))
            seconds[name] += time.perf_counter() - began
            return done

        return run

    programs = {
        name: waited_for(name, one)
        for name, one in vars(steps).items()
        if isinstance(one, jax.stages.Wrapped) and not name.startswith("_")
    }
    with patch.multiple(steps, **programs):
        yield seconds
