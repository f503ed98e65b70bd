"""How long an agent may go on, and how much it is shown at once."""

from __future__ import annotations

from dataclasses import dataclass

from rest_jax.config.settings import AgentSettings

ELLIPSIS = " …"


@dataclass(frozen=True)
class Limits:
    """An agent's limits; the sentences are those of `AgentSettings`."""

    turns: int
    turn_tokens: int
    observation_chars: int

    @staticmethod
    def of(settings: AgentSettings) -> Limits:
        return Limits(settings.turns, settings.turn_tokens, settings.observation_chars)


def cut(text: str, chars: int) -> str:
    """The text itself when it has at most `chars` characters; else its first words within them, and an ellipsis.

    A single word that is longer is cut inside.
    """
    if len(text) <= chars:
        return text
    head = text[:chars]
    inside_a_word = not text[chars].isspace() and not head[-1:].isspace()
    if inside_a_word and len(words := head.rsplit(maxsplit=1)) == 2:
        head = words[0]
    return head.rstrip() + ELLIPSIS
