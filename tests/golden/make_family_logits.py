"""Makes family_logits.npz and family_models.json: what torch transformers computes (f32, CPU) for a small model of each
family, and how transformers itself writes its config.json and names its tensors.

    python tests/golden/make_family_logits.py     (extra `reference` installed)

The models are small enough that every setting shows in the logits: windows are shorter than the texts, soft-caps are
low, thetas far apart. Weights are drawn by tensor name from numpy's legacy generator, whose stream never changes, so no
file holds them. tests/models/test_families.py compares our decoder with the figures.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

LOGITS = Path(__file__).parent / "family_logits.npz"
MODELS = Path(__file__).parent / "family_models.json"
ROWS, LENGTH = 2, 24

_SMALL = {
    "vocab_size": 96,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}
_GEMMA = _SMALL | {
    "hidden_activation": "gelu_pytorch_tanh",
    "head_dim": 16,
    "query_pre_attn_scalar": 24,
    "sliding_window": 5,
    "tie_word_embeddings": True,
}
CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "llama": _SMALL
    | {
        "model_type": "llama",
        "rope_theta": 10_000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
    "mistral": _SMALL | {"model_type": "mistral", "sliding_window": 5, "rope_theta": 1_000_000.0},
    "qwen2": _SMALL | {"model_type": "qwen2", "use_sliding_window": False, "sliding_window": 5, "max_window_layers": 1},
    "qwen2-windowed": _SMALL
    | {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    "qwen3": _SMALL | {"model_type": "qwen3", "head_dim": 20, "rope_theta": 1_000_000.0, "tie_word_embeddings": True},
    "gemma2": _GEMMA | {"model_type": "gemma2", "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
    "gemma3": _GEMMA
    | {
        "model_type": "gemma3_text",
        "num_hidden_layers": 7,
        "rope_theta": 10_000.0,
        "rope_local_base_freq": 100.0,
        "rope_scaling": None,
    },
}
"""The content of config.json as publishers wrote it until transformers 4."""


def ids() -> np.ndarray:
    """int64 [ROWS, LENGTH]."""
    return np.random.RandomState(0).randint(_SMALL["vocab_size"], size=(ROWS, LENGTH))


def weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """f32 tensors by name: matrices keep the length of what they multiply, norms and biases are far from 0 and 1."""

    def draw(name: str, shape: Sequence[int]) -> np.ndarray:
        values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(shape))
        scale, middle = (1.5 * shape[-1] ** -0.5, 0.0) if len(shape) == 2 else (0.3, 0.5)
        return (middle + scale * values).astype(np.float32)

    return {name: draw(name, shape) for name, shape in shapes.items()}


def reference(config: Mapping[str, Any]):
    """transformers' model of a config.json's content, with `weights`; and the shapes of its tensors."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kind = AutoConfig.for_model(**config)
    model = AutoModelForCausalLM.from_config(kind, dtype=torch.float32, attn_implementation="eager").eval()
    state = model.state_dict()
    shapes = {
        name: list(tensor.shape)
        for name, tensor in state.items()
        if not (kind.tie_word_embeddings and "lm_head" in name)
    }
    for name, values in weights(shapes).items():
        state[name].copy_(torch.from_numpy(values))
    return model, shapes


def logits(model) -> np.ndarray:
    """f32 [ROWS, LENGTH, V]."""
    import torch

    with torch.no_grad():
        return model(torch.from_numpy(ids())).logits.numpy()


def main() -> None:
    models, figures = {}, {}
    for name, config in CONFIGS.items():
        model, shapes = reference(config)
        figures[name] = logits(model)
        models[name] = {"config": model.config.to_dict(), "tensors": shapes}
    np.savez_compressed(LOGITS, **figures)
    MODELS.write_text(json.dumps(models, indent=1) + "\n")
    for name, figure in figures.items():
        print(name, float(np.abs(figure).max()))


if __name__ == "__main__":
    main()
