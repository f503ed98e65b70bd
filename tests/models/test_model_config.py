"""ModelConfig: read from what publishers ship, written as what transformers reads, refused when it would be wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jax
import pytest

from rest_jax.core.errors import UserError
from rest_jax.models.config import Llama3Rope, ModelConfig
from rest_jax.models.decoder import abstract_params

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


QWEN = {
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
GEMMA = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 2,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "pad_token_id": 0,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-6,
}
GEMMA3 = GEMMA | {
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "max_position_embeddings": 32768,
    "model_type": "gemma3_text",
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "rope_local_base_freq": 10000,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": 512,
    "vocab_size": 262144,
}
PUBLISHED: dict[str, dict[str, Any]] = {
    "Llama-3.2-1B": LLAMA32 | {"intermediate_size": 8192, "attention_bias": False, "mlp_bias": False},
    "Mistral-7B-v0.3": {
        "hidden_act": "silu",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "max_position_embeddings": 32768,
        "model_type": "mistral",
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1000000.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "vocab_size": 32768,
    },
    "Qwen2.5-1.5B-Instruct": QWEN
    | {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "max_position_embeddings": 32768,
        "max_window_layers": 21,
        "model_type": "qwen2",
        "num_attention_heads": 12,
        "num_hidden_layers": 28,
        "num_key_value_heads": 2,
        "sliding_window": 32768,
    },
    "Qwen3-0.6B": QWEN
    | {
        "attention_bias": False,
        "head_dim": 128,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "max_position_embeddings": 40960,
        "max_window_layers": 28,
        "model_type": "qwen3",
        "num_attention_heads": 16,
        "num_hidden_layers": 28,
        "num_key_value_heads": 8,
        "rope_scaling": None,
        "sliding_window": None,
    },
    "Qwen3-1.7B": QWEN
    | {
        "attention_bias": False,
        "head_dim": 128,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "max_position_embeddings": 40960,
        "max_window_layers": 28,
        "model_type": "qwen3",
        "num_attention_heads": 16,
        "num_hidden_layers": 28,
        "num_key_value_heads": 8,
        "rope_scaling": None,
        "sliding_window": None,
    },
    "gemma-2-2b": GEMMA
    | {
        "attn_logit_softcapping": 50.0,
        "cache_implementation": "hybrid",
        "final_logit_softcapping": 30.0,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "max_position_embeddings": 8192,
        "model_type": "gemma2",
        "num_attention_heads": 8,
        "num_hidden_layers": 26,
        "num_key_value_heads": 4,
        "rope_theta": 10000.0,
        "sliding_window": 4096,
        "vocab_size": 256000,
    },
    "gemma-3-1b-it": GEMMA3
    | {
        "cache_implementation": "hybrid",
        "eos_token_id": [1, 106],
        "hidden_size": 1152,
        "intermediate_size": 6912,
        "num_hidden_layers": 26,
        "sliding_window_pattern": 6,
    },
    "gemma-3-270m": GEMMA3
    | {
        "_sliding_window_pattern": 6,
        "hidden_size": 640,
        "intermediate_size": 2048,
        "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 3,
        "num_hidden_layers": 18,
        "use_bidirectional_attention": False,
    },
}
"""What the publishers' config.json say (all that decides the computation, and some that does not)."""

MISTRAL_V01 = PUBLISHED["Mistral-7B-v0.3"] | {"sliding_window": 4096, "rope_theta": 10000.0, "vocab_size": 32000}
"""Of the 0.1 kind: every layer has a window."""

GEMMA3_WINDOWS = (512, 512, 512, 512, 512, None)
READ = {
    "Llama-3.2-1B": ModelConfig(
        128256, 2048, 16, 32, 8, 64, 8192, 131072, 500000.0, Llama3Rope(32.0, 1.0, 4.0, 8192), tied=True
    ),
    "Mistral-7B-v0.3": ModelConfig(32768, 4096, 32, 32, 8, 128, 14336, 32768, 1000000.0, family="mistral"),
    "Qwen2.5-1.5B-Instruct": ModelConfig(
        151936, 1536, 28, 12, 2, 128, 8960, 32768, 1000000.0, None, 1e-6, tied=True, qkv_bias=True, family="qwen2"
    ),
    "Qwen3-0.6B": ModelConfig(
        151936, 1024, 28, 16, 8, 128, 3072, 40960, 1000000.0, None, 1e-6, tied=True, qk_norm=True, family="qwen3"
    ),
    "Qwen3-1.7B": ModelConfig(
        151936, 2048, 28, 16, 8, 128, 6144, 40960, 1000000.0, None, 1e-6, tied=True, qk_norm=True, family="qwen3"
    ),
    "gemma-2-2b": ModelConfig(
        vocab=256000,
        width=2304,
        layers=26,
        heads=8,
        kv_heads=4,
        head_dim=256,
        hidden=9216,
        max_positions=8192,
        norm_eps=1e-6,
        tied=True,
        activation="gelu_tanh",
        post_norms=True,
        norm_plus_one=True,
        embed_scaled=True,
        query_scalar=256,
        attention_softcap=50.0,
        logit_softcap=30.0,
        windows=(4096, None) * 13,
        family="gemma2",
    ),
    "gemma-3-1b-it": ModelConfig(
        vocab=262144,
        width=1152,
        layers=26,
        heads=4,
        kv_heads=1,
        head_dim=256,
        hidden=6912,
        max_positions=32768,
        rope_theta=1000000.0,
        norm_eps=1e-6,
        tied=True,
        activation="gelu_tanh",
        qk_norm=True,
        post_norms=True,
        norm_plus_one=True,
        embed_scaled=True,
        query_scalar=256,
        windows=GEMMA3_WINDOWS * 4 + (512, 512),
        local_rope_theta=10000.0,
        family="gemma3_text",
    ),
}
READ["gemma-3-270m"] = replace(READ["gemma-3-1b-it"], width=640, layers=18, hidden=2048, windows=GEMMA3_WINDOWS * 3)
PARAMETERS = {
    "Llama-3.2-1B": 1_235_814_400,
    "Mistral-7B-v0.3": 7_248_023_552,
    "Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "Qwen3-0.6B": 596_049_920,
    "Qwen3-1.7B": 1_720_574_976,
    "gemma-2-2b": 2_614_341_888,
    "gemma-3-1b-it": 999_885_952,
    "gemma-3-270m": 268_098_176,
}
"""Of the published weights, a tied head counted once."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_reads_what_publishers_ship(name: str) -> None:
    config = ModelConfig.from_hf(PUBLISHED[name])
    assert config == READ[name]
    assert sum(leaf.size for leaf in jax.tree.leaves(abstract_params(config))) == PARAMETERS[name]


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


@pytest.mark.parametrize("source", [LLAMA2, LLAMA32, *PUBLISHED.values()])
def test_round_trips_through_json(source: dict) -> None:
    config = ModelConfig.from_hf(source)
    again = ModelConfig.from_hf(json.loads(json.dumps(config.to_hf())))
    assert again == config
    assert hash(again) == hash(config)


@pytest.mark.parametrize("source", [LLAMA2, LLAMA32, *PUBLISHED.values(), MISTRAL_V01])
def test_transformers_reads_what_is_written(source: dict, tmp_path) -> None:
    from transformers import AutoConfig

    config = ModelConfig.from_hf(source)
    (tmp_path / "config.json").write_text(json.dumps(config.to_hf()))
    theirs = AutoConfig.from_pretrained(tmp_path)
    assert theirs.model_type == source["model_type"]
    rope = theirs.rope_parameters
    if config.local_rope_theta is not None:
        assert rope["sliding_attention"] == {"rope_type": "default", "rope_theta": config.local_rope_theta}
        rope = rope["full_attention"]
    assert rope["rope_theta"] == config.rope_theta
    assert rope["rope_type"] == ("llama3" if config.rope_scaling else "default")
    assert ModelConfig.from_hf(theirs.to_dict()) == config


@pytest.mark.parametrize("source", [*PUBLISHED.values(), MISTRAL_V01])
def test_a_silent_config_means_what_transformers_assumes(source: dict) -> None:
    """Keys that transformers has defaults for are left out, one by one."""
    from transformers import AutoConfig

    needed = {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"}
    if source["model_type"].startswith("qwen"):
        needed.add("num_key_value_heads")  # the default, 32, fits no model of that size
    for key in source.keys() - {"model_type", *needed}:
        silent = {name: value for name, value in source.items() if name != key}
        theirs = AutoConfig.for_model(**silent).to_dict()
        assert ModelConfig.from_hf(silent) == ModelConfig.from_hf(theirs), key


@pytest.mark.parametrize("change", [{"head_dim": 5}, {"hidden_size": 160}])
def test_a_head_that_cannot_be_rotated_is_refused(change: dict) -> None:
    with pytest.raises(UserError, match=r"head_dim 5 is odd, .* mend head_dim in config\.json, or hidden_size and"):
        ModelConfig.from_hf({**LLAMA2, **change})


def test_what_no_family_computes_is_not_written() -> None:
    llama = ModelConfig.from_hf(LLAMA2)
    for wrong in (
        {"qkv_bias": True},
        {"windows": (8,) * 32},
        {"logit_softcap": 30.0},
        {"family": "mistral", "post_norms": True},
    ):
        with pytest.raises(ValueError, match="cannot compute"):
            replace(llama, **wrong).to_hf()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "gpt2"}, "gpt2"),
        ({"model_type": "gemma3"}, "gemma3_text"),
        ({"sliding_window": 4096}, "sliding_window"),
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


@pytest.mark.parametrize(
    ("name", "change", "named"),
    [
        ("Mistral-7B-v0.3", {"layer_types": ["full_attention"] * 32}, "layer_types"),
        ("Qwen2.5-1.5B-Instruct", {"use_mrope": True}, "use_mrope"),
        ("Qwen2.5-1.5B-Instruct", {"layer_types": ["chunked_attention"] * 28}, "chunked_attention"),
        ("Qwen2.5-1.5B-Instruct", {"layer_types": ["full_attention"] * 27 + ["sliding_attention"]}, "layer_types"),
        ("Qwen2.5-1.5B-Instruct", {"rope_scaling": {"type": "yarn", "factor": 4.0}}, "yarn"),
        ("Qwen3-0.6B", {"attention_bias": True}, "attention_bias"),
        ("Qwen3-0.6B", {"rope_parameters": {"full_attention": {"rope_theta": 1e6}}}, "rope"),
        ("gemma-2-2b", {"hidden_activation": "gelu"}, "hidden_activation"),
        ("gemma-2-2b", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("gemma-3-1b-it", {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}, "linear"),
        ("gemma-3-1b-it", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        ("gemma-3-1b-it", {"layer_types": ["full_attention"] * 3}, "layer_types"),
        ("gemma-3-1b-it", {"sliding_window": None}, "sliding_window"),
        ("gemma-3-1b-it", {"rope_parameters": {"sliding_attention": {"rope_type": "yarn"}}}, "yarn"),
    ],
)
def test_refuses_a_familys_own_wrong_settings(name: str, change: dict, named: str) -> None:
    with pytest.raises(UserError) as caught:
        ModelConfig.from_hf(PUBLISHED[name] | change)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
