"""The files under `prompts/`: the words that prompts say by themselves."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def prompt_file(*path: str) -> str:
    """The text of one of them, without the white space around it."""
    return files("rest_jax.agents").joinpath("prompts", *path).read_text(encoding="utf-8").strip()
