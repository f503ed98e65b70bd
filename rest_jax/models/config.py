"""What a model is, apart from its weights: one frozen config, read from and written as Hugging Face's config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rest_jax.core.errors import UserError

SUPPORTED = "Llama 2 and Llama 3.x (model_type llama, SwiGLU, no biases, rope types default and llama3)"


@dataclass(frozen=True)
class Llama3Rope:
    """Llama 3.1's stretching of rotary wavelengths; the fields are those of Hugging Face's rope type `llama3`."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int


@dataclass(frozen=True)
class ModelConfig:
    """A Llama-family decoder: RMSNorm, rotary positions, grouped-query attention, SwiGLU."""

    vocab: int
    width: int
    """D, the residual stream."""
    layers: int
    heads: int
    """N, query heads."""
    kv_heads: int
    """K, key and value heads; divides `heads`."""
    head_dim: int
    """H."""
    hidden: int
    """F, the feed-forward's inner width."""
    max_positions: int
    """The longest context, in tokens."""
    rope_theta: float = 10_000.0
    rope_scaling: Llama3Rope | None = None
    norm_eps: float = 1e-5
    tied: bool = False
    """The head is the embedding, transposed."""
    attention: str = "xla"
    """How attention is computed here, by training and sampling alike: a name of `attention.BACKENDS`. No part of
    config.json."""

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise UserError(
                f"model config: {self.kv_heads} key/value heads do not divide {self.heads} heads; "
                f"mend num_key_value_heads in config.json"
            )
        if self.head_dim % 2:
            raise UserError(
                f"model config: head_dim {self.head_dim} is odd, rotary positions need pairs; mend head_dim"
            )

    @classmethod
    def from_hf(cls, hf: Mapping[str, Any]) -> ModelConfig:
        """Reads a config.json's content (transformers 4 and 5). UserError for anything this decoder would compute
        wrongly."""
        _refuse_what_differs(hf)
        rope = _rope(hf)
        width, heads = _whole(hf, "hidden_size"), _whole(hf, "num_attention_heads")
        return cls(
            vocab=_whole(hf, "vocab_size"),
            width=width,
            layers=_whole(hf, "num_hidden_layers"),
            heads=heads,
            kv_heads=int(hf.get("num_key_value_heads") or heads),
            head_dim=int(hf.get("head_dim") or width // heads),
            hidden=_whole(hf, "intermediate_size"),
            max_positions=int(hf.get("max_position_embeddings") or 2048),
            rope_theta=float(rope["rope_theta"]),
            rope_scaling=_scaling(rope),
            norm_eps=float(hf.get("rms_norm_eps") or 1e-6),
            tied=bool(hf.get("tie_word_embeddings", False)),
        )

    def to_hf(self) -> dict[str, Any]:
        """The content of a config.json. Rope stands there twice: as transformers 5 reads it (`rope_parameters`) and
        as older readers do (`rope_theta`, `rope_scaling`)."""
        scaling = {"rope_type": "llama3", **asdict(self.rope_scaling)} if self.rope_scaling else None
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocab,
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.hidden,
            "max_position_embeddings": self.max_positions,
            "rope_theta": self.rope_theta,
            "rope_scaling": scaling,
            "rope_parameters": {**(scaling or {"rope_type": "default"}), "rope_theta": self.rope_theta},
            "rms_norm_eps": self.norm_eps,
            "tie_word_embeddings": self.tied,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
        }


_ONLY = {
    "model_type": ("llama",),
    "hidden_act": ("silu", "swish"),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "rope_interleaved": (False,),
    "partial_rotary_factor": (1, 1.0),
    "sliding_window": (),
    "quantization_config": (),
}
"""Settings that change the computation, with the values that this decoder computes; absent or null is the default."""


def _refuse_what_differs(hf: Mapping[str, Any]) -> None:
    _required(hf, "model_type")
    for key, values in _ONLY.items():
        if hf.get(key) is not None and hf[key] not in values:
            raise UserError(f"config.json: {key} {hf[key]!r} is not supported; choose a model of {SUPPORTED}")


def _required(hf: Mapping[str, Any], key: str) -> Any:
    if hf.get(key) is None:
        raise UserError(f"config.json: {key} is missing; fetch the model again, or add it as its publisher states it")
    return hf[key]


def _whole(hf: Mapping[str, Any], key: str) -> int:
    value = _required(hf, key)
    if not isinstance(value, int) or value < 1:
        raise UserError(f"config.json: {key} must be a positive whole number, found {value!r}; fetch the model again")
    return value


def _rope(hf: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rotary settings as transformers 5 names them, from its `rope_parameters` or from the older pair of keys."""
    rope = hf.get("rope_parameters") or hf.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        raise UserError(f"config.json: rope settings must be a mapping, found {rope!r}; fetch the model again")
    theta = rope.get("rope_theta") or hf.get("rope_theta") or 10_000.0
    return {**rope, "rope_theta": theta, "rope_type": rope.get("rope_type") or rope.get("type") or "default"}


def _scaling(rope: Mapping[str, Any]) -> Llama3Rope | None:
    match rope["rope_type"]:
        case "default":
            return None
        case "llama3":
            return Llama3Rope(
                factor=float(_required(rope, "factor")),
                low_freq_factor=float(_required(rope, "low_freq_factor")),
                high_freq_factor=float(_required(rope, "high_freq_factor")),
                original_max_position_embeddings=_whole(rope, "original_max_position_embeddings"),
            )
        case other:
            raise UserError(f"config.json: rope type {other!r} is not supported; choose a model of {SUPPORTED}")
