"""Fixtures for all tests. The environment is set before anything imports jax."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()
# XLA:CPU has no more threads than devices for the parts of programs, and a device may wait in several all-reduces at
# once: eight threads can all wait for one that finds none. (jaxlib 0.10.2; it aborts the process after 40 s.)
os.environ["PJRT_NPROC"] = "64"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest

from rest_jax.models import catalog


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The folder of a real model (SmolLM2-135M-Instruct, dequantised Q4_1), fetched once into the cache."""
    return catalog.get("smollm2-135m-instruct-q4_1")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data ($REST_JAX_DATA, else ../shared/data beside the repository); skips where there is none.

    In CI its absence fails: there a skipped test would go unnoticed.
    """
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("REST_JAX_DATA", beside))
    if not folder.is_dir():
        reason = f"no real data in {folder}: set REST_JAX_DATA to a folder with hotpotqa/ and the others"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder
