"""ModelConfig: read from what publishers ship, written as what transformers reads, refused when it would be wrong."""

from __future__ import annotations

import json

import pytest

from rest_jax.core.errors import UserError
from rest_jax.models.config import Llama3Rope, ModelConfig

LLAMA2 = {
    "model_type": "llama",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_scaling": None,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "pretraining_tp": 1,
}
STRETCH = {
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
LLAMA32 = LLAMA2 | {
    "vocab_size": 128256,
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 131072,
    "rope_theta": 500000.0,
    "rope_scaling": STRETCH,
    "tie_word_embeddings": True,
}


def test_reads_llama_2() -> None:
    config = ModelConfig.from_hf(LLAMA2)
    assert (config.heads, config.kv_heads, config.head_dim) == (32, 32, 128)
    assert (config.rope_theta, config.rope_scaling, config.tied) == (10_000.0, None, False)


def test_reads_llama_3_rope_in_both_spellings() -> None:
    older = ModelConfig.from_hf(LLAMA32)
    newer = {key: value for key, value in LLAMA32.items() if key not in ("rope_theta", "rope_scaling")}
    newer["rope_parameters"] = STRETCH | {"rope_theta": 500000.0}
    assert older.rope_scaling == Llama3Rope(32.0, 1.0, 4.0, 8192)
    assert older.rope_theta == 500000.0
    assert ModelConfig.from_hf(newer) == older


@pytest.mark.parametrize("source", [LLAMA2, LLAMA32])
def test_round_trips_through_json(source: dict) -> None:
    config = ModelConfig.from_hf(source)
    again = ModelConfig.from_hf(json.loads(json.dumps(config.to_hf())))
    assert again == config
    assert hash(again) == hash(config)


@pytest.mark.parametrize("source", [LLAMA2, LLAMA32])
def test_transformers_reads_what_is_written(source: dict, tmp_path) -> None:
    from transformers import AutoConfig

    config = ModelConfig.from_hf(source)
    (tmp_path / "config.json").write_text(json.dumps(config.to_hf()))
    theirs = AutoConfig.from_pretrained(tmp_path)
    assert type(theirs).__name__ == "LlamaConfig"
    assert theirs.rope_parameters["rope_theta"] == config.rope_theta
    assert theirs.rope_parameters["rope_type"] == ("llama3" if config.rope_scaling else "default")
    assert ModelConfig.from_hf(theirs.to_dict()) == config


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "gpt2"}, "gpt2"),
        ({"model_type": "qwen2"}, "qwen2"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "yarn"),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, "linear"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"model_type": None}, "model_type"),
        ({"num_key_value_heads": 5}, "num_key_value_heads"),
    ],
)
def test_refuses_what_it_would_compute_wrongly(change: dict, named: str) -> None:
    with pytest.raises(UserError) as caught:
        ModelConfig.from_hf(LLAMA2 | change)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
