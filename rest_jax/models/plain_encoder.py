"""What is left of a tokenizer when every token with a power is taken out of its reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PlainEncoder:
    """What a tokenizer file says: ordinary text to ids, every id's bytes, and the names of its control tokens."""

    encode: Callable[[str], list[int]]
    """Ids of ordinary text; control tokens' names are text like any other, nothing is added."""
    surfaces: tuple[bytes, ...]
    """The bytes of every id, control tokens' names included."""
    byte_ids: Mapping[int, int]
    """The id that stands for a byte alone; some vocabularies lack bytes that are rare (SmolLM2: 0x04, 0xF1 …)."""
    control: Mapping[str, int]
    """Every added, control and user-defined token: name → id."""
    silent: frozenset[int]
    """Those of them that stand for no text; user-defined ones (Gemma's runs of newlines, Qwen's <tool_call>) do."""
    opening: tuple[int, ...]
    """Ids that the file itself puts before a text (BOS), when the folder's settings do not say otherwise."""
    digest: str
    """sha256 over everything that decides ids."""
