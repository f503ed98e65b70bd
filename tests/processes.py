"""Processes of a test: their ports, and nobody left behind."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
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


def together(commands: Sequence[Sequence[str]], environs: Sequence[Mapping[str, str]]) -> list[tuple[int, str]]:
    """Exit code and output of processes that run side by side; all of them end with the test."""
    with ExitStack() as ending:
        started = []
        for command, environ in zip(commands, environs, strict=True):
            process = subprocess.Popen(
                command, env={**os.environ, **environ}, stdout=subprocess.PIPE, text=True, cwd=ROOT
            )
            started.append(ending.enter_context(process))
            ending.callback(process.kill)
        outputs = [process.communicate(timeout=WITHIN_S)[0] for process in started]
        return [(process.returncode, output) for process, output in zip(started, outputs, strict=True)]
