"""What a model is, apart from its weights: one frozen config that states what is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from rest_jax.core.errors import UserError
from rest_jax.models import families


@dataclass(frozen=True)
class Llama3Rope:
    """Llama 3.1's stretching of rotary wavelengths; the fields are those of Hugging Face's rope type `llama3`."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int


@dataclass(frozen=True)
class ModelConfig:
    """A decoder with RMSNorm, rotary positions, grouped-query attention and a gated feed-forward.

    The defaults are Llama's; what other families compute differently is said field by field (`families`).
    """

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
    activation: Literal["silu", "gelu_tanh"] = "silu"
    """Of the feed-forward's gate; `gelu_tanh` is GELU's approximation by tanh."""
    qkv_bias: bool = False
    """Queries, keys and values have biases."""
    qk_norm: bool = False
    """Each head's queries and keys are normed before they are rotated."""
    post_norms: bool = False
    """What attention and feed-forward give is normed too, before it joins the residual stream."""
    norm_plus_one: bool = False
    """Norms scale by 1 + their weights, in f32, where others scale by their weights."""
    embed_scaled: bool = False
    """Embeddings are multiplied by the root of `width`, rounded to the weights' dtype."""
    query_scalar: int | None = None
    """Scores are divided by the root of it; None is `head_dim`."""
    attention_softcap: float | None = None
    """Scores are bounded smoothly: c x tanh(score / c)."""
    logit_softcap: float | None = None
    """Logits are bounded so too."""
    windows: tuple[int | None, ...] = ()
    """For each layer how many tokens a query sees, itself the last of them; None is all before it. () is None for all
    layers."""
    local_rope_theta: float | None = None
    """Of the layers with a window, which are not stretched then; None: rotary positions are the same in all layers."""
    family: str = "llama"
    """Under which `model_type` it is written. It computes nothing."""
    attention: str = "xla"
    """What computes attention here, a name of `attention.BACKENDS`: in training this one, in sampling what
    `engine.attention` comes to. No part of config.json."""

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise UserError(
                f"model config: {self.kv_heads} key/value heads do not divide {self.heads} heads; "
                f"mend num_key_value_heads in config.json"
            )
        if self.head_dim % 2:
            raise UserError(
                f"model config: head_dim {self.head_dim} is odd, rotary positions need pairs; "
                f"mend head_dim in config.json, or hidden_size and num_attention_heads where it has none"
            )

    @property
    def query_scale(self) -> float:
        """What scores are multiplied by."""
        return (self.query_scalar or self.head_dim) ** -0.5

    def window(self, layer: int) -> int | None:
        """How many tokens a query of that layer sees, itself the last of them; None is all before it."""
        return self.windows[layer] if self.windows else None

    @classmethod
    def from_hf(cls, hf: Mapping[str, Any]) -> ModelConfig:
        """Reads a config.json's content (transformers 4 and 5). UserError for anything this decoder would compute
        wrongly."""
        fields = families.read(hf)
        scaling = fields.pop("rope_scaling")
        return cls(**fields, rope_scaling=Llama3Rope(**scaling) if scaling else None)

    def to_hf(self) -> dict[str, Any]:
        """The content of a config.json, which transformers 4 and 5 read. ValueError when the family's model in
        transformers would compute something else than this config says."""
        content = families.write(self)
        if replace(ModelConfig.from_hf(content), attention=self.attention) != self:
            raise ValueError(f"transformers' {self.family} cannot compute what this config says: {self}")
        return content
