"""Compiled programs are kept between processes: a run that goes on does not compile again."""

from __future__ import annotations

import os
from pathlib import Path

import jax


def keep_compiled(folder: Path) -> None:
    """Keep XLA's executables in `folder`, unless the user has chosen a place for them already.

    What is read from there is run: the folder must be the user's own, never a shared writable one.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
