"""Processes of a test: their ports, and nobody left behind."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
WITHIN_S = 300
"""For processes that take seconds, on a machine that does much else."""


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def by_hand(count: int, index: int, port: int) -> dict[str, str]:
    """What says to a process that it is this one of so many on this machine."""
    return {
        "REST_JAX_PROCESSES": str(count),
        "REST_JAX_PROCESS": str(index),
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
    }


@contextmanager
def started(
    commands: Sequence[Sequence[str]], environs: Sequence[Mapping[str, str]]
) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes side by side, what they print in pipes; all of them end with the block."""
    with ExitStack() as ending:
        running = []
        for command, environ in zip(commands, environs, strict=True):
            process = subprocess.Popen(
                command, env={**os.environ, **environ}, stdout=subprocess.PIPE, text=True, cwd=ROOT
            )
            running.append(ending.enter_context(process))
            ending.callback(process.kill)
        yield running


def together(
    commands: Sequence[Sequence[str]], environs: Sequence[Mapping[str, str]], within_s: float = WITHIN_S
) -> list[tuple[int, str]]:
    """Exit code and output of processes that run side by side; all of them end with the test."""
    with started(commands, environs) as running:
        outputs = [process.communicate(timeout=within_s)[0] for process in running]
        return [(process.returncode, output) for process, output in zip(running, outputs, strict=True)]
