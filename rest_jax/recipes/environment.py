"""What a run's bits depend on beside its config: versions, code, devices, dtype."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import jax

from rest_jax import __version__
from rest_jax.core.canonical import digest, digest_file
from rest_jax.core.identity import PACKAGES
from rest_jax.models.dtypes import compute_dtype


def environment(dtype: str) -> Mapping[str, str]:
    """Versions, the code's digest, the kind of device, and what the setting `model.dtype` means here."""
    device = jax.devices()[0]
    return {
        "rest_jax": __version__,
        "code": code_digest(Path(__file__).parents[1]),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "platform": device.platform,
        "device": device.device_kind,
        "dtype": compute_dtype(dtype).name,
    }


def code_digest(package: Path) -> str:
    """The first 12 hex digits of sha256 over a package's modules and prompts: versions do not tell that someone edited
    them between two halves of a run."""
    files = sorted(path for path in package.rglob("*") if path.suffix in (".py", ".txt", ".yaml"))
    return digest({path.relative_to(package).as_posix(): digest_file(path) for path in files})[:12]
