"""A CPU as several devices: programs of one core each, side by side, do more than one program on all cores. And its
memory."""

from __future__ import annotations

import os
from pathlib import Path

import jax


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int | None:
    """Bytes that processes can still have without swapping; None where the platform does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def divide_cpu(ways: int) -> None:
    """Let this process's CPU count as `ways` devices, at most as many as it has cores.

    To be called before anything asks for a device; afterwards, and where the user has chosen a number
    (`JAX_NUM_CPU_DEVICES`, or XLA's flag), it changes nothing.
    """
    if "JAX_NUM_CPU_DEVICES" in os.environ or "host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    try:
        jax.config.update("jax_num_cpu_devices", max(1, min(ways, cores())))
    except RuntimeError:  # JAX has its devices already
        return
