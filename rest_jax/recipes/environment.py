"""What a run's bits depend on beside its config: versions, devices, dtype."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version

import jax

from rest_jax import __version__
from rest_jax.models.dtypes import compute_dtype

PACKAGES = ("jax", "jaxlib", "flax", "transformers")


def environment(dtype: str) -> Mapping[str, str | int]:
    """Versions, kind and number of devices, and the dtype that the setting `model.dtype` means here."""
    devices = jax.devices()
    return {
        "rest_jax": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "platform": devices[0].platform,
        "device": devices[0].device_kind,
        "devices": len(devices),
        "dtype": compute_dtype(dtype).name,
    }
