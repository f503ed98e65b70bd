"""How long an agent may go on, how much it is shown at once, and how it chooses among replies and answers."""

from __future__ import annotations

from dataclasses import dataclass

from rest_jax.config.settings import AgentSettings
from rest_jax.core.answers import Voice, normalise

ELLIPSIS = " …"


@dataclass(frozen=True)
class Limits:
    """An agent's limits, as `AgentSettings` has them, and its task's voice."""

    turns: int
    turn_tokens: int
    observation_chars: int
    candidates: int = 1
    memory: int | None = None
    voice: Voice = normalise

    @staticmethod
    def of(settings: AgentSettings, turn_tokens: int, voice: Voice = normalise) -> Limits:
        """The limits of these settings; `turn_tokens` are the method's own, for settings that say none."""
        turn = settings.turn_tokens or turn_tokens
        return Limits(settings.turns, turn, settings.observation_chars, settings.candidates, settings.memory, voice)


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
