"""A CPU as several devices: before JAX has its devices, and never against the user's own choice."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def devices(code: str, **chosen: str) -> int:
    """How many devices a new process has that runs `code` first."""
    unset = ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")
    env = {name: value for name, value in os.environ.items() if name not in unset} | chosen
    code = f"import jax\nfrom rest_jax.distributed.cpu import divide_cpu\n{code}\nprint(jax.device_count())"
    return int(subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True).stdout)


def test_as_many_devices_as_asked_for_and_no_more_than_cores():
    assert devices("divide_cpu(1)") == 1
    assert devices("divide_cpu(2)") == min(2, CORES)
    assert devices("divide_cpu(1000)") == CORES


@pytest.mark.parametrize(
    "chosen", [{"JAX_NUM_CPU_DEVICES": "3"}, {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}]
)
def test_the_users_own_number_stands(chosen: dict[str, str]):
    assert devices("divide_cpu(2)", **chosen) == 3


def test_devices_that_are_there_stay():
    assert devices("jax.devices(); divide_cpu(2)") == 1
