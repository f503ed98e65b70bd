"""Text to ids and back, with the difference between trusted and untrusted text.

A plain encoder (`tokenizer_json`, `tokenizer_sentencepiece`) knows ordinary tokens only. Added, control and
user-defined tokens enter ids through one door, `Tokenizer.encode_trusted`; `encode_untrusted` has no way to them, and
asserts it. Segments are encoded one by one, so no encoder adds BOS, EOS or sentencepiece's dummy space: " Paris" and
"Paris" are different texts, wherever they stand. (Sentencepiece models saw their first word with that space; a prompt
that wants it writes it.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rest_jax.core.chat import ChatFormat
from rest_jax.core.errors import UserError
from rest_jax.core.text import valid_unicode
from rest_jax.models import tokenizer_json, tokenizer_sentencepiece
from rest_jax.models.chat import probe
from rest_jax.models.plain_encoder import PlainEncoder

_INDISPENSABLE = frozenset(b"\n" + bytes(range(0x20, 0x7F)) + "\ufffd".encode())
"""Bytes that every vocabulary must have: printable ASCII, the line's end, and the replacement character's."""

_SPECIAL_TEXTS = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass(frozen=True)
class Tokenizer:
    """A model's tokenizer; implements `core.policy.TextCodec`. Made by `load`."""

    plain: PlainEncoder
    bos_ids: tuple[int, ...]
    eos_ids: frozenset[int]
    control_ids: frozenset[int]
    silent_ids: frozenset[int]
    """Control tokens proper: those of `control_ids` that stand for no text."""
    special_texts: Mapping[str, str]
    """The names under which a chat template knows its special tokens, such as bos_token."""
    chat_template: str | None
    folder: Path

    @property
    def digest(self) -> str:
        return self.plain.digest

    @property
    def vocab_size(self) -> int:
        """One more than the largest id; a model's embedding may have more rows."""
        return len(self.plain.surfaces)

    def encode_trusted(self, text: str) -> tuple[int, ...]:
        """Ids of the agent's own text; control tokens in it are control tokens. Never adds BOS or EOS.

        In both encodings a character that the vocabulary has no bytes for becomes U+FFFD; the tokenizer's own way,
        to leave it out, would join what stands around it. So do lone surrogates.
        """
        return tuple(self._trusted(self._writable(text)))

    def encode_untrusted(self, text: str) -> tuple[int, ...]:
        """Ids of text that anyone may have written; contains no id of `control_ids`, whatever the text.

        Where the plain encoder itself would name a control token (its name is a single character, say), that
        character is written byte by byte.
        """
        ids = tuple(self._ordinary(self._writable(text)))
        assert self.control_ids.isdisjoint(ids), "a control token came from untrusted text"
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, silent tokens left out; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(self.token_bytes(token) for token in ids).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for; empty for silent tokens and for ids that no token has."""
        if token in self.silent_ids or not 0 <= token < self.vocab_size:
            return b""
        return self.plain.surfaces[token]

    @property
    def chat(self) -> ChatFormat | None:
        """The model's chat turns; None when it has no chat template.

        UserError when the template is not append-only.
        """
        if self.chat_template is None:
            return None
        return probe(self.chat_template, self.special_texts, opens_with_bos=bool(self.bos_ids), where=self.folder)

    @property
    def end_of_turn_id(self) -> int:
        """The one of `eos_ids` with which the model's own turns end: that of its chat template, else its eos_token.

        Chat models name several (Llama 3's <|end_of_text|>, <|eom_id|> and <|eot_id|>), in no telling order; where
        neither source names one, the lowest is taken.
        """
        return self._end_of_turn_id

    def without_ids_from(self, limit: int) -> Tokenizer:
        """The same tokenizer for a model with `limit` embeddings: control tokens beyond them are no tokens any more.

        Gemma 3's models of text alone come with the tokenizer of those that see; its <image_soft_token> would be the
        id after their last. UserError when an ordinary token lies beyond.
        """
        beyond = frozenset(range(limit, self.vocab_size))
        if not beyond <= self.control_ids:
            raise UserError(
                f"{self.folder}: the tokenizer has {self.vocab_size} ids, the model {limit}; "
                f"put the model's own tokenizer there"
            )
        control = {name: id_ for name, id_ in self.plain.control.items() if id_ < limit}
        return replace(
            self,
            plain=replace(self.plain, surfaces=self.plain.surfaces[:limit], control=control),
            control_ids=self.control_ids - beyond,
            silent_ids=self.silent_ids - beyond,
        )

    @cached_property
    def _end_of_turn_id(self) -> int:
        try:
            after = self.chat.assistant[1] if self.chat else ""
        except UserError:  # a template that no agent can chat in; the model may still be played in the base style
            after = ""
        named = self.encode_trusted(after + self.special_texts.get("eos_token", ""))
        return next((token for token in named if token in self.eos_ids), min(self.eos_ids))

    @cached_property
    def _control_pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self.plain.control, key=len, reverse=True)
        return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")

    def _writable(self, text: str) -> str:
        """The text with U+FFFD for every character that no ids stand for."""
        text = valid_unicode(text)
        if self.plain.byte_ids.keys() >= set(text.encode()):
            return text
        return "".join(c if self.plain.byte_ids.keys() >= set(c.encode()) else "\ufffd" for c in text)

    def _trusted(self, text: str) -> Iterator[int]:
        pieces = self._control_pattern.split(text) if self.plain.control else [text]
        for index, piece in enumerate(pieces):
            if index % 2:
                yield self.plain.control[piece]
            else:
                yield from self._ordinary(piece)

    def _ordinary(self, text: str) -> Iterator[int]:
        for token in self.plain.encode(text) if text else ():
            if token in self.control_ids:
                yield from (self.plain.byte_ids[byte] for byte in self.plain.surfaces[token])
            else:
                yield token


def load(folder: Path) -> Tokenizer:
    """The tokenizer of a model folder: tokenizer.json (byte-level BPE, or BPE with byte fallback), else a bare
    sentencepiece tokenizer.model.

    End-of-sequence ids come from generation_config.json, else config.json, else tokenizer_config.json. UserError when
    a file is missing or broken, when the kind is not supported, or when nothing ends a reply.
    """
    settings = _read_json(folder / "tokenizer_config.json")
    added = settings.get("added_tokens_decoder", {})
    if (folder / "tokenizer.json").is_file():
        plain = tokenizer_json.read(folder / "tokenizer.json", added)
    elif (folder / "tokenizer.model").is_file():
        plain = tokenizer_sentencepiece.read(folder / "tokenizer.model", added)
    else:
        raise UserError(f"{folder} has no tokenizer.json nor tokenizer.model: name a folder with a tokenizer")
    special_texts = {name: text for name in _SPECIAL_TEXTS if (text := _text(settings.get(name)))}
    bos_ids = _bos_ids(plain, settings, special_texts)
    eos_ids = _eos_ids(folder, plain, special_texts)
    silent_ids = plain.silent | eos_ids | frozenset(bos_ids)
    control_ids = silent_ids | frozenset(plain.control.values())
    if not control_ids.isdisjoint(plain.byte_ids.values()) or not plain.byte_ids.keys() >= _INDISPENSABLE:
        raise UserError(f"{folder}: the tokenizer cannot write every text without control tokens: choose another model")
    template = _chat_template(folder, settings)
    return Tokenizer(plain, bos_ids, eos_ids, control_ids, silent_ids, special_texts, template, folder)


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object, empty when there is no such file."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as why:
        raise UserError(f"{path} cannot be read ({why}): fetch the model again") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} is not a JSON object: fetch the model again")
    return value


def _text(token: Any) -> str:
    """A special token's text, which files write as a string or as an object with `content`."""
    return (token.get("content", "") if isinstance(token, dict) else token) or ""


def _bos_ids(plain: PlainEncoder, settings: Mapping[str, Any], special_texts: Mapping[str, str]) -> tuple[int, ...]:
    """`add_bos_token` where the folder says it, else what the tokenizer file does."""
    wanted = settings.get("add_bos_token")
    if wanted is None:
        return plain.opening
    bos = special_texts.get("bos_token", "")
    return (plain.control[bos],) if wanted and bos in plain.control else ()


def _eos_ids(folder: Path, plain: PlainEncoder, special_texts: Mapping[str, str]) -> frozenset[int]:
    for name in ("generation_config.json", "config.json"):
        named = _read_json(folder / name).get("eos_token_id")
        if named is not None:
            ids = frozenset(named if isinstance(named, list) else [named])
            break
    else:
        eos = special_texts.get("eos_token", "")
        ids = frozenset([plain.control[eos]] if eos in plain.control else [])
    if not ids:
        raise UserError(f"{folder} names no end-of-sequence token: put eos_token_id into generation_config.json")
    if not all(isinstance(id_, int) and 0 <= id_ < len(plain.surfaces) for id_ in ids):
        raise UserError(f"{folder}: eos_token_id {sorted(ids)} is not in the tokenizer: mend generation_config.json")
    return ids


def _chat_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """The template as its own file, or in tokenizer_config.json (a text, or named templates)."""
    own_file = folder / "chat_template.jinja"
    if own_file.is_file():
        return own_file.read_text(encoding="utf-8")
    template = settings.get("chat_template")
    if isinstance(template, list):
        return next((named["template"] for named in template if named.get("name") == "default"), None)
    return template
