"""The tokenizer inside a GGUF file, rebuilt as Hugging Face's tokenizer.json and tokenizer_config.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rest_jax.core.errors import UserError

_CONTROL, _USER_DEFINED = 3, 4
"""GGUF token types (llama.cpp's llama_token_type)."""

_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
_PRE_TOKENIZERS = {
    "smollm": [{"type": "Digits", "individual_digits": True}, _BYTE_LEVEL | {"use_regex": True}],
    "llama-bpe": [
        {"type": "Split", "pattern": {"Regex": _LLAMA3_SPLIT}, "behavior": "Isolated", "invert": False},
        _BYTE_LEVEL | {"use_regex": False},
    ],
}
"""How text falls into words before BPE, by llama.cpp's name for it (`tokenizer.ggml.pre`)."""

_OPEN_WITH_BOS = ("llama-bpe",)
"""Those for which llama.cpp opens texts with BOS when the file does not say."""


def tokenizer_json(metadata: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The content of tokenizer.json: byte-level BPE with the metadata's tokens, merges and token types."""
    kind, words = metadata["tokenizer.ggml.model"], metadata.get("tokenizer.ggml.pre")
    if kind != "gpt2" or words not in _PRE_TOKENIZERS:
        raise UserError(
            f"{path}: tokenizer {kind!r} with words {words!r} is not supported (gpt2 with "
            f"{' or '.join(_PRE_TOKENIZERS)} is): take the model's Hugging Face folder instead"
        )
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    added = [
        _added_token(id_, token, special=type_ == _CONTROL)
        for id_, (token, type_) in enumerate(zip(tokens, types, strict=True))
        if type_ in (_CONTROL, _USER_DEFINED)
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": _PRE_TOKENIZERS[words]},
        "post_processor": None,
        "decoder": _BYTE_LEVEL | {"use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": words == "llama-bpe",
            "vocab": {token: id_ for id_, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in metadata["tokenizer.ggml.merges"]],
        },
    }


def tokenizer_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The content of tokenizer_config.json: special tokens by name, whether BOS opens texts, the chat template."""
    tokens = metadata["tokenizer.ggml.tokens"]
    named = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    specials = {
        name: tokens[metadata[key]]
        for name, role in named.items()
        if (key := f"tokenizer.ggml.{role}_token_id") in metadata
    }
    template = metadata.get("tokenizer.chat_template")
    opens_with_bos = metadata.get("tokenizer.ggml.add_bos_token", metadata.get("tokenizer.ggml.pre") in _OPEN_WITH_BOS)
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": bool(opens_with_bos),
        "clean_up_tokenization_spaces": False,
        **specials,
        **({"chat_template": template} if template else {}),
    }


def _added_token(id_: int, content: str, *, special: bool) -> dict[str, Any]:
    return {
        "id": id_,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": special,
    }
