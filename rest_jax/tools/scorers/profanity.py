"""A scorer that runs here: alt-profanity-check's linear classifier of words. Extra `toxicity`."""

from __future__ import annotations

import asyncio
import importlib.metadata
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from rest_jax.core.errors import UserError
from rest_jax.tools.registry import Tool
from rest_jax.tools.scorers.toxicity import Scores, toxicity_tool


@dataclass(frozen=True)
class ProfanitySettings:
    """It has none."""


@asynccontextmanager
async def open_profanity(settings: ProfanitySettings) -> AsyncIterator[tuple[Tool, ...]]:
    """`toxicity`, as `toxicity_tool` describes it, of one attribute. Raises UserError without the extra."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of another scikit-learn than it was fitted with
            from profanity_check import predict_prob  # pyright: ignore[reportMissingImports]
    except ImportError as missing:
        raise UserError("alt-profanity-check is not installed; pip install 'rest_jax[toxicity]'") from missing

    async def score(text: str) -> Scores:
        (probability,) = await asyncio.to_thread(predict_prob, [text])
        return {"toxicity": float(probability)}

    yield (toxicity_tool(score, f"alt-profanity-check-{importlib.metadata.version('alt-profanity-check')}"),)
