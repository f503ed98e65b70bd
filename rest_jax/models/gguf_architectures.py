"""The architectures of GGUF files that are read: their settings and tensors by Hugging Face's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rest_jax.core.errors import UserError
from rest_jax.models.config import ModelConfig


@dataclass(frozen=True)
class Architecture:
    """What one `general.architecture` means, as llama.cpp writes it."""

    model_type: str
    """Of config.json."""
    settings: Mapping[str, str]
    """Keys of config.json, and those of the metadata (without the architecture's name) that hold their values."""
    parts: Mapping[str, str]
    """Tensors of a layer, and Hugging Face's names of them."""
    adjacent_pairs: bool = False
    """Rows of queries and keys lie with a head's rotary pairs side by side; Hugging Face has them in two halves."""
    norms_hold_one: bool = False
    """Norms are stored as 1 + their weights."""


NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
"""Tensors outside of layers."""

_SETTINGS = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "intermediate_size": "feed_forward_length",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
}
_PARTS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}

ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": Architecture(
        model_type="llama",
        settings=_SETTINGS | {"head_dim": "rope.dimension_count"},
        parts=_PARTS,
        adjacent_pairs=True,
    ),
    "gemma3": Architecture(
        model_type="gemma3_text",
        settings=_SETTINGS
        | {
            "head_dim": "attention.key_length",
            "query_pre_attn_scalar": "attention.key_length",
            "sliding_window": "attention.sliding_window",
            "sliding_window_pattern": "attention.sliding_window_pattern",
            "rope_local_base_freq": "rope.freq_base_swa",
        },
        parts=_PARTS
        | {
            "attn_q_norm": "self_attn.q_norm",
            "attn_k_norm": "self_attn.k_norm",
            "post_attention_norm": "post_attention_layernorm",
            "ffn_norm": "pre_feedforward_layernorm",
            "post_ffw_norm": "post_feedforward_layernorm",
        },
        norms_hold_one=True,
    ),
}


def hf_config(metadata: Mapping[str, Any], *, tied: bool, path: Path) -> dict[str, Any]:
    """The content of config.json, rotary scaling left out. UserError when the decoder would compute it wrongly."""
    name = metadata["general.architecture"]
    architecture = ARCHITECTURES[name]
    stored = {key: metadata.get(f"{name}.{setting}") for key, setting in architecture.settings.items()}
    known = {key: _shortest(value) for key, value in stored.items() if value is not None}
    kv_heads = known.get("num_key_value_heads", known["num_attention_heads"])
    content = {"model_type": architecture.model_type, **known, "num_key_value_heads": kv_heads}
    content |= {"vocab_size": len(metadata["tokenizer.ggml.tokens"]), "tie_word_embeddings": tied}
    try:
        return ModelConfig.from_hf(content).to_hf()
    except UserError as why:
        raise UserError(f"{path}, as {why}") from None


def hf_tensor(architecture: Architecture, content: Mapping[str, Any], name: str, weights: np.ndarray) -> np.ndarray:
    """A tensor of Hugging Face's name as Hugging Face has it; `content` is config.json's."""
    if architecture.norms_hold_one and name.endswith("norm.weight"):
        return weights - 1
    if architecture.adjacent_pairs and name.endswith("q_proj.weight"):
        return _in_halves(weights, content["num_attention_heads"])
    if architecture.adjacent_pairs and name.endswith("k_proj.weight"):
        return _in_halves(weights, content["num_key_value_heads"])
    return weights


def _shortest(value: Any) -> Any:
    """The shortest decimal of a number that the file stores as f32: 1e-5 rather than 9.999999747378752e-06."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _in_halves(weights: np.ndarray, heads: int) -> np.ndarray:
    rows, columns = weights.shape
    pairs = weights.reshape(heads, rows // heads // 2, 2, columns)
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows, columns)
