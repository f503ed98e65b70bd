"""GGUF files of the Llama family, read and converted to a folder in Hugging Face's layout.

Quantised tensors are dequantised to f32: the folder computes what the GGUF file says, not what its origin said.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf.gguf_reader import GGUFReader, ReaderTensor
from gguf.quants import dequantize

from rest_jax.core.canonical import digest_file
from rest_jax.core.errors import UserError
from rest_jax.models import gguf_rope, gguf_tokenizer, safetensors_stream

_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER_NAMES = {
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


@dataclass(frozen=True, eq=False)
class GGUFModel:
    """A GGUF file, opened: its settings as Hugging Face's files say them, its tensors on demand."""

    path: Path
    config: Mapping[str, Any]
    """The content of config.json."""
    tokenizer: Mapping[str, Any]
    """The content of tokenizer.json."""
    tokenizer_config: Mapping[str, Any]
    generation_config: Mapping[str, Any]
    quantisation: tuple[str, ...]
    """The tensors' types in the file, such as F32, Q4_1 and Q8_0."""
    stored: Mapping[str, ReaderTensor]
    """The file's tensors by their Hugging Face names."""

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, [out, in] for matrices."""
        return tuple(int(size) for size in reversed(self.stored[name].shape))

    def tensor(self, name: str) -> np.ndarray:
        """f32, dequantised, [out, in] for matrices; query and key rows in Hugging Face's order for rotary positions."""
        stored = self.stored[name]
        weights = dequantize(stored.data, stored.tensor_type).astype(np.float32, copy=False).reshape(self.shape(name))
        if name.endswith("q_proj.weight"):
            return _unpermuted(weights, self.config["num_attention_heads"])
        if name.endswith("k_proj.weight"):
            return _unpermuted(weights, self.config["num_key_value_heads"])
        return weights


def read(path: Path) -> GGUFModel:
    """Opens a GGUF file; tensors are read when asked for. UserError when it is missing, corrupt or no Llama."""
    if not path.is_file():
        raise UserError(f"{path} does not exist: name a GGUF file")
    try:
        reader = GGUFReader(path)
        metadata = {key: field.contents() for key, field in reader.fields.items()}
        return _model(path, metadata, reader.tensors)
    except UserError:
        raise
    except Exception as why:  # a broken file can break the reader anywhere
        raise UserError(f"{path} is no whole GGUF file ({type(why).__name__}: {why}): fetch it again") from None


def convert(path: Path, folder: Path, source: Mapping[str, Any] | None = None) -> Path:
    """Writes the GGUF file's model as a folder: config.json, the tokenizer's files, generation_config.json,
    model.safetensors (f32) and source.json (where it came from: `source`, the file's name and sha256, its types).

    The folder appears whole or not at all; an existing one is replaced. Returns the folder.
    """
    model = read(path)
    origin = {
        **(source or {}),
        "file": path.name,
        "sha256": digest_file(path),
        "weights": f"dequantised {' '.join(model.quantisation)} to F32",
    }
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            new = Path(scratch) / folder.name
            new.mkdir()
            safetensors_stream.write(
                new / "model.safetensors",
                [(name, np.dtype(np.float32), model.shape(name)) for name in model.stored],
                _tensors(model),
            )
            for name, content in (
                ("config.json", model.config),
                ("tokenizer.json", model.tokenizer),
                ("tokenizer_config.json", model.tokenizer_config),
                ("generation_config.json", model.generation_config),
                ("source.json", origin),
            ):
                (new / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(new, folder)
    except OSError as why:
        raise UserError(
            f"{folder} cannot be written ({why.strerror}): free space there or choose another cache"
        ) from None
    return folder


def _tensors(model: GGUFModel) -> Iterator[np.ndarray]:
    for name in model.stored:
        try:
            with np.errstate(invalid="raise"):
                tensor = model.tensor(name)
        except (ValueError, IndexError, ArithmeticError) as why:
            raise UserError(f"{model.path} is no whole GGUF file (tensor {name}: {why}): fetch it again") from None
        yield tensor


def _model(path: Path, metadata: Mapping[str, Any], tensors: list[ReaderTensor]) -> GGUFModel:
    architecture = metadata["general.architecture"]
    if architecture != "llama":
        raise UserError(f"{path}: architecture {architecture!r} is not supported, only llama: choose another model")
    factors = next((np.asarray(tensor.data) for tensor in tensors if tensor.name == gguf_rope.FACTORS), None)
    stored = {_hf_name(tensor.name, path): tensor for tensor in tensors if tensor.name != gguf_rope.FACTORS}
    model = GGUFModel(
        path=path,
        config=gguf_rope.with_scaling(_config(metadata, tied="lm_head.weight" not in stored), metadata, factors, path),
        tokenizer=gguf_tokenizer.tokenizer_json(metadata, path),
        tokenizer_config=gguf_tokenizer.tokenizer_config(metadata),
        generation_config=_token_ids(metadata),
        quantisation=tuple(sorted({tensor.tensor_type.name for tensor in tensors})),
        stored=stored,
    )
    expected = 2 + (not model.config["tie_word_embeddings"]) + len(_LAYER_NAMES) * model.config["num_hidden_layers"]
    if len(stored) != expected:
        raise UserError(f"{path} holds {len(stored)} tensors where its settings need {expected}: fetch it again")
    return model


def _hf_name(name: str, path: Path) -> str:
    if name in _NAMES:
        return _NAMES[name]
    match name.split("."):
        case ["blk", layer, part, "weight"] if part in _LAYER_NAMES:
            return f"model.layers.{layer}.{_LAYER_NAMES[part]}.weight"
    raise UserError(f"{path}: tensor {name!r} is not of a plain Llama: take the model's Hugging Face folder instead")


def _config(metadata: Mapping[str, Any], *, tied: bool) -> dict[str, Any]:
    heads, width = metadata["llama.attention.head_count"], metadata["llama.embedding_length"]
    theta = _shortest(metadata.get("llama.rope.freq_base", 10_000.0))
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "vocab_size": len(metadata["tokenizer.ggml.tokens"]),
        "hidden_size": width,
        "num_hidden_layers": metadata["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.get("llama.attention.head_count_kv", heads),
        "head_dim": metadata.get("llama.rope.dimension_count", width // heads),
        "intermediate_size": metadata["llama.feed_forward_length"],
        "max_position_embeddings": metadata["llama.context_length"],
        "rms_norm_eps": _shortest(metadata["llama.attention.layer_norm_rms_epsilon"]),
        "rope_theta": theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "tie_word_embeddings": tied,
        "attention_bias": False,
        "mlp_bias": False,
        "dtype": "float32",
        **_token_ids(metadata),
    }


def _token_ids(metadata: Mapping[str, Any]) -> dict[str, int]:
    roles = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
    keys = {name: f"tokenizer.ggml.{role}_token_id" for name, role in roles.items()}
    return {name: metadata[key] for name, key in keys.items() if key in metadata}


def _shortest(value: float) -> float:
    """The shortest decimal of a number that the file stores as f32: 1e-5 rather than 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def _unpermuted(weights: np.ndarray, heads: int) -> np.ndarray:
    """Rows back from llama.cpp's order (a head's rotary pairs side by side) to Hugging Face's (in two halves)."""
    rows, columns = weights.shape
    pairs = weights.reshape(heads, rows // heads // 2, 2, columns)
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows, columns)
