"""Rotary scaling in a GGUF file: read where the decoder computes it, refused where it does not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rest_jax.core.errors import UserError
from rest_jax.models.config import ModelConfig
from rest_jax.models.rope import inverse_frequencies

FACTORS = "rope_freqs.weight"
"""A tensor [H/2] by which llama.cpp divides the frequencies; it is no weight."""

_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""What every Llama since 3.1 has. Files hold what follows from it and the factor (FACTORS), not the numbers."""


def with_scaling(
    config: Mapping[str, Any], metadata: Mapping[str, Any], factors: np.ndarray | None, path: Path
) -> dict[str, Any]:
    """A config.json's content with the scaling that the file's metadata and `factors` (f32 [H/2], if any) say.

    UserError for a scaling other than Llama 3's.
    """
    # llama.cpp's own defaults: without a type it is linear, without a factor there is none.
    rope = f"{metadata['general.architecture']}.rope"
    kind = metadata.get(f"{rope}.scaling.type", "linear")
    factor = metadata.get(f"{rope}.scaling.factor", metadata.get(f"{rope}.scale_linear", 0.0))
    if kind not in ("none", "linear") or (kind == "linear" and factor not in (0.0, 1.0)):
        raise _refused(path, f"{kind} with factor {factor:g}")
    if factors is None or np.all(factors == 1):
        return dict(config)
    scaling = {"rope_type": "llama3", "factor": float(factors.max()), **_LLAMA3}
    scaled = {**config, "rope_scaling": scaling, "rope_parameters": {**config["rope_parameters"], **scaling}}
    plain, stretched = (inverse_frequencies(ModelConfig.from_hf(hf)) for hf in (config, scaled))
    if factors.shape != plain.shape or not np.allclose(plain / factors, stretched, rtol=1e-4, atol=0):
        raise _refused(path, f"{FACTORS} is not that of a Llama 3")
    return scaled


def _refused(path: Path, what: str) -> UserError:
    return UserError(
        f"{path}: rope scaling ({what}) is not supported, only Llama 3's: take the model's Hugging Face folder instead"
    )
