"""Where things are kept that can be made again: models, indexes, generated tasks, compiled programs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """$REST_JAX_CACHE, else ~/.cache/rest_jax."""
    named = os.environ.get("REST_JAX_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "rest_jax"
