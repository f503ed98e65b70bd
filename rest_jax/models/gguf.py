"""GGUF files, read and converted to a folder in Hugging Face's layout.

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
from rest_jax.models.gguf_architectures import ARCHITECTURES, NAMES, Architecture, hf_config, hf_tensor


@dataclass(frozen=True, eq=False)
class GGUFModel:
    """A GGUF file, opened: its settings as Hugging Face's files say them, its tensors on demand."""

    path: Path
    architecture: Architecture
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
        """f32, dequantised, [out, in] for matrices; as Hugging Face has it."""
        stored = self.stored[name]
        weights = dequantize(stored.data, stored.tensor_type).astype(np.float32, copy=False).reshape(self.shape(name))
        return hf_tensor(self.architecture, self.config, name, weights)


def read(path: Path) -> GGUFModel:
    """Opens a GGUF file; tensors are read when asked for. UserError when it is missing, corrupt or of another
    architecture."""
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
    name = metadata["general.architecture"]
    if name not in ARCHITECTURES:
        raise UserError(
            f"{path}: architecture {name!r} is not supported, only {' and '.join(ARCHITECTURES)}: take the model's "
            f"Hugging Face folder instead"
        )
    architecture = ARCHITECTURES[name]
    factors = next((np.asarray(tensor.data) for tensor in tensors if tensor.name == gguf_rope.FACTORS), None)
    weights = [tensor for tensor in tensors if tensor.name != gguf_rope.FACTORS]
    stored = {_hf_name(tensor.name, architecture, path): tensor for tensor in weights}
    content = hf_config(metadata, tied="lm_head.weight" not in stored, path=path)
    model = GGUFModel(
        path=path,
        architecture=architecture,
        config={
            **gguf_rope.with_scaling(content, metadata, factors, path),
            "dtype": "float32",
            **_token_ids(metadata),
        },
        tokenizer=gguf_tokenizer.tokenizer_json(metadata, path),
        tokenizer_config=gguf_tokenizer.tokenizer_config(metadata),
        generation_config=_token_ids(metadata),
        quantisation=tuple(sorted({tensor.tensor_type.name for tensor in tensors})),
        stored=stored,
    )
    layers = model.config["num_hidden_layers"]
    expected = 2 + (not model.config["tie_word_embeddings"]) + len(architecture.parts) * layers
    if len(stored) != expected:
        raise UserError(f"{path} holds {len(stored)} tensors where its settings need {expected}: fetch it again")
    return model


def _hf_name(name: str, architecture: Architecture, path: Path) -> str:
    if name in NAMES:
        return NAMES[name]
    match name.split("."):
        case ["blk", layer, part, "weight"] if part in architecture.parts:
            return f"model.layers.{layer}.{architecture.parts[part]}.weight"
    raise UserError(
        f"{path}: tensor {name!r} is not of a plain {architecture.model_type}: take the model's Hugging Face folder "
        f"instead"
    )


def _token_ids(metadata: Mapping[str, Any]) -> dict[str, int]:
    roles = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
    keys = {name: f"tokenizer.ggml.{role}_token_id" for name, role in roles.items()}
    return {name: metadata[key] for name, key in keys.items() if key in metadata}
