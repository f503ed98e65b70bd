"""A bare sentencepiece tokenizer.model (Llama 2, Mistral, Gemma), BPE or unigram, with byte fallback."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sentencepiece
from google.protobuf.message import DecodeError
from sentencepiece.sentencepiece_model_pb2 import ModelProto  # pyright: ignore[reportAttributeAccessIssue]

from rest_jax.core.canonical import digest
from rest_jax.core.errors import UserError
from rest_jax.models.plain_encoder import PlainEncoder


def read(path: Path, added: Mapping[str, Mapping[str, Any]]) -> PlainEncoder:
    """The encoder of a sentencepiece model; `added` are further added tokens by id (tokenizer_config.json's
    `added_tokens_decoder`).

    Like transformers' Llama tokenizer, a bare model opens texts with its BOS piece.
    """
    proto = ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except (DecodeError, OSError) as why:
        raise UserError(f"{path} is no sentencepiece model ({why}): fetch the model again") from None
    kind = ModelProto.SentencePiece
    control = {token["content"]: int(id_) for id_, token in added.items()}
    silent = {int(id_) for id_, token in added.items() if token.get("special")}
    surfaces = [piece.piece.replace("▁", " ").encode() for piece in proto.pieces]
    byte_ids: dict[int, int] = {}
    for id_, piece in enumerate(proto.pieces):
        if piece.type in (kind.CONTROL, kind.USER_DEFINED, kind.UNKNOWN):
            control[surfaces[id_].decode()] = id_
            if piece.type == kind.USER_DEFINED:
                piece.type = kind.CONTROL  # control pieces are never matched in text, user-defined ones always
            else:
                silent.add(id_)
        elif piece.type == kind.BYTE:
            byte = int(piece.piece[1:-1], 16)
            byte_ids[byte] = id_
            surfaces[id_] = bytes([byte])
    if not byte_ids:
        raise UserError(f"{path}: a sentencepiece model without byte fallback loses characters: choose another model")
    surfaces.extend([b""] * (1 + max(control.values(), default=0) - len(surfaces)))
    for id_, token in added.items():
        surfaces[int(id_)] = token["content"].encode()
    proto.normalizer_spec.add_dummy_prefix = False
    proto.normalizer_spec.remove_extra_whitespaces = False
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(proto.SerializeToString())
    return PlainEncoder(
        encode=processor.EncodeAsIds,
        surfaces=tuple(surfaces),
        byte_ids=byte_ids,
        control=control,
        silent=frozenset(silent),
        opening=(processor.bos_id(),) if processor.bos_id() >= 0 else (),
        digest=digest({"kind": "sentencepiece", "control": control, "model": _pieces(proto)}),
    )


def _pieces(proto: ModelProto) -> list[object]:
    """What decides ids: the algorithm, the normaliser's rules, and every piece with its score and type."""
    rules = proto.normalizer_spec
    return [
        proto.trainer_spec.model_type,
        [rules.precompiled_charsmap.hex(), rules.escape_whitespaces],
        [[piece.piece, piece.score, piece.type] for piece in proto.pieces],
    ]
