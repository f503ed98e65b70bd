"""The families of decoders that a Hugging Face config.json may name: how one is read, and how it is written.

A family is data: what its `model_type` says without config.json saying it. Every default and rule is that of the
configuration and model classes of transformers 5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from rest_jax.core.errors import UserError

if TYPE_CHECKING:
    from rest_jax.models.config import ModelConfig

SLIDING, FULL = "sliding_attention", "full_attention"
"""The layer types of config.json: with a window, without."""

_ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
"""Hugging Face's names of activations, the first of each being the one that is written, and ours."""


@dataclass(frozen=True)
class Family:
    """All that one `model_type` means. Keys are those of config.json, fields those of `ModelConfig`."""

    name: str
    """For people."""
    architecture: str
    computes: Mapping[str, Any] = field(default_factory=dict)
    """Fields that are the same in the whole family, where they are not `ModelConfig`'s defaults."""
    reads: Mapping[str, str] = field(default_factory=dict)
    """Further fields, and the keys that hold their numbers; null is None."""
    assumes: Mapping[str, Any] = field(default_factory=dict)
    """Values of keys that are not there, beside `_ASSUMED`."""
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Keys that change the computation, with the values that this decoder computes; absent or null is the first."""
    windowed: Callable[[Mapping[str, Any], int], bool] | None = None
    """(config.json, layer) -> whether it has a window, where `layer_types` does not say so; None: no layer has."""
    activation: str = "hidden_act"
    """The key of the feed-forward's activation."""


_ASSUMED = {
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "num_key_value_heads": None,
    "head_dim": None,
    "tie_word_embeddings": False,
}
_ONLY = {"rope_interleaved": (False,), "partial_rotary_factor": (1, 1.0), "quantization_config": ()}

_QUERY_SCALAR = "query_pre_attn_scalar"

_QWEN = {
    "max_position_embeddings": 32_768,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
}
_GEMMA = {
    "hidden_activation": "gelu_pytorch_tanh",
    "num_key_value_heads": 4,
    "head_dim": 256,
    _QUERY_SCALAR: 256,
    "sliding_window": 4096,
    "tie_word_embeddings": True,
}
_GEMMA_COMPUTES = {"post_norms": True, "norm_plus_one": True, "embed_scaled": True}


def _qwen_windowed(hf: Mapping[str, Any], layer: int) -> bool:
    return bool(hf["use_sliding_window"] and hf["sliding_window"]) and layer >= hf["max_window_layers"]


FAMILIES: Mapping[str, Family] = {
    "llama": Family(
        name="Llama 2 and 3",
        architecture="LlamaForCausalLM",
        assumes={"max_position_embeddings": 2048},
        only={"attention_bias": (False,), "mlp_bias": (False,), "sliding_window": (), "layer_types": ()},
    ),
    "mistral": Family(
        name="Mistral",
        architecture="MistralForCausalLM",
        assumes={"max_position_embeddings": 131_072, "num_key_value_heads": 8, "sliding_window": 4096},
        only={"layer_types": ()},
        windowed=lambda hf, layer: hf["sliding_window"] is not None,
    ),
    "qwen2": Family(
        name="Qwen2 and 2.5",
        architecture="Qwen2ForCausalLM",
        computes={"qkv_bias": True},
        assumes={**_QWEN, "num_key_value_heads": 32},
        only={"use_mrope": (False,)},
        windowed=_qwen_windowed,
    ),
    "qwen3": Family(
        name="Qwen3",
        architecture="Qwen3ForCausalLM",
        computes={"qk_norm": True},
        assumes={**_QWEN, "num_key_value_heads": 32, "head_dim": 128},
        only={"attention_bias": (False,)},
        windowed=_qwen_windowed,
    ),
    "gemma2": Family(
        name="Gemma 2",
        architecture="Gemma2ForCausalLM",
        computes=_GEMMA_COMPUTES,
        reads={"attention_softcap": "attn_logit_softcapping", "logit_softcap": "final_logit_softcapping"},
        assumes={
            **_GEMMA,
            "max_position_embeddings": 8192,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
        },
        only={"attention_bias": (False,), "use_bidirectional_attention": (False,)},
        windowed=lambda hf, layer: layer % 2 == 0,
        activation="hidden_activation",
    ),
    "gemma3_text": Family(
        name="Gemma 3 (text)",
        architecture="Gemma3ForCausalLM",
        computes={**_GEMMA_COMPUTES, "qk_norm": True},
        reads={"logit_softcap": "final_logit_softcapping"},
        assumes={
            **_GEMMA,
            "max_position_embeddings": 131_072,
            "rope_theta": 1_000_000.0,
            "rope_local_base_freq": 10_000.0,
            "sliding_window_pattern": 6,
        },
        only={"attention_bias": (False,), "use_bidirectional_attention": (False,), "attn_logit_softcapping": ()},
        windowed=lambda hf, layer: (layer + 1) % hf["sliding_window_pattern"] != 0,
        activation="hidden_activation",
    ),
}

SUPPORTED = ", ".join(f"{family.name} (model_type {model_type})" for model_type, family in FAMILIES.items())


def read(content: Mapping[str, Any]) -> dict[str, Any]:
    """`ModelConfig`'s fields from a config.json's content; `rope_scaling` as a mapping of `Llama3Rope`'s fields.

    UserError for anything that the decoder would compute wrongly.
    """
    model_type = _required(content, "model_type")
    if model_type not in FAMILIES:
        raise UserError(f"config.json: model_type {model_type!r} is not supported; choose a model of {SUPPORTED}")
    family = FAMILIES[model_type]
    hf = {**_ASSUMED, **family.assumes, **content}
    for key, values in {**_ONLY, **family.only}.items():
        if hf.get(key) is not None and hf[key] not in values:
            raise _refused(f"{key} {hf[key]!r}")
    if hf[family.activation] not in _ACTIVATIONS:
        raise _refused(f"{family.activation} {hf[family.activation]!r}")
    width, heads, layers = (_whole(hf, key) for key in ("hidden_size", "num_attention_heads", "num_hidden_layers"))
    rope = _rope(hf)
    return {
        "vocab": _whole(hf, "vocab_size"),
        "width": width,
        "layers": layers,
        "heads": heads,
        "kv_heads": heads if hf["num_key_value_heads"] is None else _whole(hf, "num_key_value_heads"),
        "head_dim": width // heads if hf["head_dim"] is None else _whole(hf, "head_dim"),
        "hidden": _whole(hf, "intermediate_size"),
        "max_positions": _whole(hf, "max_position_embeddings"),
        "rope_theta": _number(rope, "rope_theta"),
        "rope_scaling": _scaling(rope),
        "norm_eps": _number(hf, "rms_norm_eps"),
        "tied": bool(hf["tie_word_embeddings"]),
        "activation": _ACTIVATIONS[hf[family.activation]],
        **family.computes,
        "query_scalar": _whole(hf, _QUERY_SCALAR) if _QUERY_SCALAR in family.assumes else None,
        **{name: None if hf.get(key) is None else _number(hf, key) for name, key in family.reads.items()},
        "windows": _windows(family, hf, layers),
        "local_rope_theta": _local_theta(hf),
        "family": model_type,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """The content of a config.json, from which `read` gives the config's own fields."""
    family = FAMILIES[config.family]
    return {
        "architectures": [family.architecture],
        "model_type": config.family,
        "vocab_size": config.vocab,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.hidden,
        "max_position_embeddings": config.max_positions,
        **_rope_content(config),
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tied,
        family.activation: next(name for name, ours in _ACTIVATIONS.items() if ours == config.activation),
        **{key: values[0] for key, values in family.only.items() if values},
        **({_QUERY_SCALAR: config.query_scalar} if _QUERY_SCALAR in family.assumes else {}),
        **{key: getattr(config, name) for name, key in family.reads.items()},
        **_window_content(config, family),
    }


def _refused(what: str) -> UserError:
    return UserError(f"config.json: {what} is not supported; choose a plain model of {SUPPORTED}")


def _required(hf: Mapping[str, Any], key: str) -> Any:
    if hf.get(key) is None:
        raise UserError(f"config.json: {key} is missing; fetch the model again, or add it as its publisher states it")
    return hf[key]


def _whole(hf: Mapping[str, Any], key: str) -> int:
    value = _required(hf, key)
    if not isinstance(value, int) or value < 1:
        raise UserError(f"config.json: {key} must be a positive whole number, found {value!r}; fetch the model again")
    return value


def _number(hf: Mapping[str, Any], key: str) -> float:
    value = _required(hf, key)
    if not isinstance(value, int | float) or value <= 0:
        raise UserError(f"config.json: {key} must be a positive number, found {value!r}; fetch the model again")
    return float(value)


def _rope(hf: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rotary settings of the layers without a window, as transformers 5 names them: from its `rope_parameters`, which
    a family with two kinds of layers nests, or from the older pair of keys."""
    nested = "rope_local_base_freq" in hf
    rope = hf.get("rope_parameters") or hf.get("rope_scaling") or {}
    rope = rope.get(FULL, rope) if nested and isinstance(rope, Mapping) else rope
    if not isinstance(rope, Mapping) or any(isinstance(value, Mapping) for value in rope.values()):
        raise UserError(f"config.json: rope settings must be a mapping, found {rope!r}; fetch the model again")
    if rope.get("partial_rotary_factor", 1) != 1:
        raise _refused(f"partial_rotary_factor {rope['partial_rotary_factor']!r}")
    rope_type = rope.get("rope_type") or rope.get("type") or "default"
    return {"rope_theta": hf["rope_theta"], **rope, "rope_type": rope_type}


def _scaling(rope: Mapping[str, Any]) -> dict[str, Any] | None:
    match rope["rope_type"]:
        case "default":
            return None
        case "llama3":
            factors = ("factor", "low_freq_factor", "high_freq_factor")
            original = "original_max_position_embeddings"
            return {**{key: _number(rope, key) for key in factors}, original: _whole(rope, original)}
        case other:
            raise _refused(f"rope type {other!r}")


def _local_theta(hf: Mapping[str, Any]) -> float | None:
    """Of the layers with a window, in a family that has two."""
    if "rope_local_base_freq" not in hf:
        return None
    rope = (hf.get("rope_parameters") or {}).get(SLIDING) or {}
    if rope.get("rope_type", "default") != "default":
        raise _refused(f"rope type {rope['rope_type']!r} of {SLIDING}")
    return _number({"rope_theta": hf["rope_local_base_freq"], **rope}, "rope_theta")


def _rope_content(config: ModelConfig) -> dict[str, Any]:
    """Rope stands there twice: as transformers 5 reads it (`rope_parameters`) and as older readers do."""
    scaling = {"rope_type": "llama3", **asdict(config.rope_scaling)} if config.rope_scaling else None
    full = {**(scaling or {"rope_type": "default"}), "rope_theta": config.rope_theta}
    older = {"rope_theta": config.rope_theta, "rope_scaling": scaling}
    if config.local_rope_theta is None:
        return {**older, "rope_parameters": full}
    local = {"rope_type": "default", "rope_theta": config.local_rope_theta}
    return {**older, "rope_local_base_freq": config.local_rope_theta, "rope_parameters": {FULL: full, SLIDING: local}}


def _windows(family: Family, hf: Mapping[str, Any], layers: int) -> tuple[int | None, ...]:
    if family.windowed is None:
        return ()
    types = hf.get("layer_types") or [SLIDING if family.windowed(hf, layer) else FULL for layer in range(layers)]
    if other := sorted(set(types) - {SLIDING, FULL}):
        raise _refused(f"layer type {other[0]!r}")
    if len(types) != layers:
        raise UserError(f"config.json: {len(types)} layer_types for {layers} layers; fetch the model again")
    if SLIDING not in types:
        return ()
    if hf.get("use_sliding_window") is False:
        raise _refused(f"layer_types with {SLIDING} but use_sliding_window false")
    window = _whole(hf, "sliding_window")
    return tuple(window if kind == SLIDING else None for kind in types)


def _window_content(config: ModelConfig, family: Family) -> dict[str, Any]:
    if family.windowed is None:
        return {}
    window = next((window for window in config.windows if window is not None), None)
    keys: dict[str, Any] = {"sliding_window": window}
    if "layer_types" not in family.only:
        keys["layer_types"] = [FULL if config.window(layer) is None else SLIDING for layer in range(config.layers)]
    if "use_sliding_window" in family.assumes:
        keys["use_sliding_window"] = window is not None
    return keys
