"""The tokenizer inside a GGUF file, rebuilt as Hugging Face's tokenizer.json and tokenizer_config.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rest_jax.core.errors import UserError

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED = range(1, 6)
"""GGUF token types (llama.cpp's llama_token_type); bytes are 6."""

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

_OPEN_WITH_BOS = {"llama", "llama-bpe"}
"""Kinds of models and of words for which llama.cpp opens texts with BOS when the file does not say."""


def tokenizer_json(metadata: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The content of tokenizer.json, with the metadata's tokens, merges and token types: byte-level BPE, or
    sentencepiece's BPE with byte fallback."""
    match metadata["tokenizer.ggml.model"], metadata.get("tokenizer.ggml.pre"):
        case "gpt2", words if words in _PRE_TOKENIZERS:
            tokens, added_types = metadata["tokenizer.ggml.tokens"], (_CONTROL, _USER_DEFINED)
            return _file(metadata, tokens, _byte_level(metadata, words), added_types)
        case "llama", _:
            # llama.cpp has the spaces of user-defined pieces (Gemma's runs of them) as spaces.
            tokens = [token.replace(" ", "▁") for token in metadata["tokenizer.ggml.tokens"]]
            added_types = (_UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED)
            return _file(metadata, tokens, _sentencepiece(metadata, tokens), added_types)
        case kind, words:
            raise UserError(
                f"{path}: tokenizer {kind!r} with words {words!r} is not supported (llama, and gpt2 with "
                f"{' or '.join(_PRE_TOKENIZERS)} are): take the model's Hugging Face folder instead"
            )


def _file(
    metadata: Mapping[str, Any], tokens: list[str], parts: Mapping[str, Any], added_types: tuple[int, ...]
) -> dict[str, Any]:
    types = metadata["tokenizer.ggml.token_type"]
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {token: id_ for id_, token in enumerate(tokens)},
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            _added_token(id_, token, special=type_ != _USER_DEFINED)
            for id_, (token, type_) in enumerate(zip(tokens, types, strict=True))
            if type_ in added_types
        ],
        "post_processor": None,
        **parts,
        "model": model | parts["model"],
    }


def _byte_level(metadata: Mapping[str, Any], words: str) -> dict[str, Any]:
    return {
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": _PRE_TOKENIZERS[words]},
        "decoder": _BYTE_LEVEL | {"use_regex": True},
        "model": {
            "ignore_merges": words == "llama-bpe",
            "merges": [merge.split(" ") for merge in metadata["tokenizer.ggml.merges"]],
        },
    }


def _sentencepiece(metadata: Mapping[str, Any], tokens: list[str]) -> dict[str, Any]:
    """As transformers converts sentencepiece models; a first word has a dummy space, unless the file says otherwise."""
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    back = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    dummy_space = metadata.get("tokenizer.ggml.add_space_prefix", True)
    first, strip = {"type": "Prepend", "prepend": "▁"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    decoders = [back, {"type": "ByteFallback"}, {"type": "Fuse"}]
    return {
        "normalizer": {"type": "Sequence", "normalizers": [first, space] if dummy_space else [space]},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": [*decoders, strip] if dummy_space else decoders},
        "model": {
            "unk_token": tokens[metadata.get("tokenizer.ggml.unknown_token_id", 0)],
            "fuse_unk": True,
            "byte_fallback": True,
            "merges": _merges(metadata, tokens),
        },
    }


def _merges(metadata: Mapping[str, Any], tokens: list[str]) -> list[list[str]]:
    """Every way to join two pieces into a third, the best piece first: sentencepiece joins by the score of what comes
    out, BPE by rank. User-defined pieces go before all others."""
    scores, types = metadata["tokenizer.ggml.scores"], metadata["tokenizer.ggml.token_type"]
    rank = {
        token: (type_ == _NORMAL, -score)
        for token, score, type_ in zip(tokens, scores, types, strict=True)
        if type_ in (_NORMAL, _USER_DEFINED)
    }
    halves = ([piece[:at], piece[at:]] for piece in sorted(rank, key=rank.__getitem__) for at in range(1, len(piece)))
    return [pair for pair in halves if pair[0] in rank and pair[1] in rank]


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
    kinds = (metadata["tokenizer.ggml.model"], metadata.get("tokenizer.ggml.pre"))
    opens_with_bos = metadata.get("tokenizer.ggml.add_bos_token", not _OPEN_WITH_BOS.isdisjoint(kinds))
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
