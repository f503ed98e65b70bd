"""How a chat model writes its turns: the text before and after each role's words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ChatFormat:
    """Append-only chat turns: a conversation's text is `begin`, then for every turn (before, words, after).

    The texts are trusted and may hold control tokens; the words between them are encoded by their author's trust.
    A model's default system message is not part of the format: whoever wants a system turn writes one.
    """

    begin: str
    """Text before the first turn; the codec's `bos_ids` open every transcript and are not repeated here."""
    system: tuple[str, str]
    user: tuple[str, str]
    assistant: tuple[str, str]
    """`assistant[0]` is the generation prompt; `assistant[1]` begins with the token that ends a reply."""
