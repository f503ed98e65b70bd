"""Hugging Face tokenizer.json: byte-level BPE (SmolLM2, Llama 3, Qwen) and BPE with byte fallback (Llama 2, Gemma)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as FastTokenizer

from rest_jax.core.canonical import canonical_json, digest
from rest_jax.core.errors import UserError
from rest_jax.models.plain_encoder import PlainEncoder


def read(path: Path, added: Mapping[str, Mapping[str, Any]]) -> PlainEncoder:
    """The encoder of a tokenizer.json; `added` are further added tokens by id (tokenizer_config.json's
    `added_tokens_decoder`).

    The plain encoder is the file's own without added tokens: they are taken out of the list, the vocabulary and the
    merges, because the file's `special` flags do not keep text from naming them.
    """
    try:
        return _encoder(path.read_text(encoding="utf-8"), canonical_json(added))
    except UserError as why:
        raise UserError(f"{path}: {why}") from None
    except Exception as why:  # the Rust parser raises bare Exception
        raise UserError(f"{path} is no usable tokenizer ({why}): fetch the model again") from None


def _byte_of_character() -> dict[str, int]:
    """Byte-level BPE's printable alphabet (GPT-2): one character for each byte."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(others)}


@lru_cache(maxsize=8)
def _encoder(file_json: str, added_json: str) -> PlainEncoder:
    """Made once for its content (it takes more than a second): every policy of a run has a copy of the same file."""
    file, added = json.loads(file_json), json.loads(added_json)
    model = file["model"]
    if model.get("type", "BPE") != "BPE":
        raise UserError(f"a {model['type']} tokenizer is not supported, only BPE: choose another model")
    tokens = [*(file.get("added_tokens") or []), *({**token, "id": int(id_)} for id_, token in added.items())]
    control = {token["content"]: token["id"] for token in tokens}
    byte_level = any(part.get("type") == "ByteLevel" for part in _parts(file))
    if not byte_level:  # Gemma's runs of spaces are tokens too; texts have them as spaces
        control |= {name.replace("▁", " "): id_ for name, id_ in control.items()}
    surface = _byte_level_surface if byte_level else _fallback_surface
    vocab: dict[str, int] = {token: id_ for token, id_ in model["vocab"].items() if token not in control}
    surfaces = [b""] * (1 + max([*vocab.values(), *control.values()]))
    for token, id_ in vocab.items():
        surfaces[id_] = surface(token)
    for token, id_ in control.items():
        surfaces[id_] = token.encode() if byte_level else _fallback_surface(token)
    byte_names = _BYTE_OF if byte_level else {f"<0x{byte:02X}>": byte for byte in range(256)}
    if not (byte_level or model.get("byte_fallback")):
        raise UserError("BPE without byte-level or byte fallback loses characters: choose another model")
    plain_file = _without_control(file, vocab, control)
    fast = FastTokenizer.from_str(json.dumps(plain_file))
    return PlainEncoder(
        encode=lambda text: fast.encode(text, add_special_tokens=False).ids,
        surfaces=tuple(surfaces),
        byte_ids={byte: vocab[name] for name, byte in byte_names.items() if name in vocab},
        control=control,
        silent=frozenset(token["id"] for token in tokens if token.get("special")),
        opening=_opening(file.get("post_processor"), control),
        digest=digest({"kind": "tokenizer.json", "control": control, **plain_file}),
    )


def _parts(file: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every normaliser, pre-tokeniser and decoder of a file, sequences unrolled."""
    waiting = [file.get("normalizer"), file.get("pre_tokenizer"), file.get("decoder")]
    while waiting:
        part = waiting.pop()
        if part:
            yield part
            for members in ("normalizers", "pretokenizers", "decoders"):
                waiting.extend(part.get(members, ()))


def _without_control(file: dict[str, Any], vocab: dict[str, int], control: Mapping[str, int]) -> dict[str, Any]:
    """The file that encodes ordinary text alone: no added tokens, no dummy space, nothing added at the ends."""
    pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in file["model"]["merges"]]
    merges = [pair for pair in pairs if control.keys().isdisjoint((*pair, "".join(pair)))]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": _without_dummy_space(file.get("normalizer")),
        "pre_tokenizer": _without_dummy_space(file.get("pre_tokenizer")),
        "post_processor": None,
        "decoder": None,
        "model": file["model"] | {"vocab": vocab, "merges": merges, "unk_token": None, "dropout": None},
    }


def _without_dummy_space(part: Any) -> Any:
    """A normaliser or pre-tokeniser that puts no space before a text."""
    if not part:
        return None
    match part["type"]:
        case "Prepend":
            return None
        case "Metaspace":
            return part | {"prepend_scheme": "never", "add_prefix_space": False}
        case "ByteLevel":
            return part | {"add_prefix_space": False}
        case "Sequence":
            members = "normalizers" if "normalizers" in part else "pretokenizers"
            kept = [member for member in map(_without_dummy_space, part[members]) if member]
            return part | {members: kept}
        case _:
            return part


def _byte_level_surface(token: str) -> bytes:
    return bytes(_BYTE_OF[character] for character in token) if _BYTE_OF.keys() >= set(token) else token.encode()


_BYTE = re.compile("<0x([0-9A-F]{2})>")


def _fallback_surface(token: str) -> bytes:
    if byte := _BYTE.fullmatch(token):
        return bytes.fromhex(byte[1])
    return token.replace("▁", " ").encode()


def _opening(post_processor: Any, control: Mapping[str, int]) -> tuple[int, ...]:
    """The special tokens that a template post-processor puts before a single text."""
    if not post_processor:
        return ()
    for part in (post_processor, *post_processor.get("processors", ())):
        if part["type"] == "TemplateProcessing":
            before: list[int] = []
            for item in part["single"]:
                if "SpecialToken" not in item:
                    return tuple(before)
                before.append(control[item["SpecialToken"]["id"]])
    return ()


_BYTE_OF = _byte_of_character()
