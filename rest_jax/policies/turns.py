"""A transcript as the messages of a chat endpoint, and a chat reply as what goes on after the transcript."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal

from rest_jax.core.chat import ChatFormat
from rest_jax.core.transcript import Segment, Source

Speaker = Literal["system", "user", "assistant"]
Message = dict[str, str]
"""{"role", "content"}"""

_MODELS = (Source.MODEL, Source.IMPORTED)


def messages(segments: Sequence[Segment], chat: ChatFormat | None) -> list[Message]:
    """A transcript's turns. A last turn of the assistant that holds no reply yet (a cue) is left out.

    In plain text (`chat` None) what the model said is the assistant's and all else the user's; in chat turns the
    format's own texts say whose turn it is, wherever trusted text holds them, and are left out.
    """
    joined: list[Message] = []
    for speaker, text in _plain(segments) if chat is None else _turns(segments, chat):
        if joined and joined[-1]["role"] == speaker:
            joined[-1]["content"] += text
        else:
            joined.append({"role": speaker, "content": text})
    if joined and joined[-1]["role"] == "assistant" and segments[-1].source not in _MODELS:
        joined.pop()
    return [message for message in joined if message["content"].strip()]


def continued(segments: Sequence[Segment], chat: ChatFormat | None, reply: str) -> str:
    """A chat reply as it follows the transcript: a chat model begins a turn of its own, so a cue such as `Thought:`
    is not said twice, and a space parts the two where the cue ends without one."""
    trusted = segments[-1].text if segments and segments[-1].source is Source.PROMPT else ""
    cue = trusted.rpartition("\n" if chat is None else chat.assistant[0])[2]
    if not cue.strip():
        return reply
    said = reply.lstrip().removeprefix(cue.strip()).lstrip()
    return said if cue[-1].isspace() else f" {said}"


def _plain(segments: Sequence[Segment]) -> Iterator[tuple[Speaker, str]]:
    for segment in segments:
        yield "assistant" if segment.source in _MODELS else "user", segment.text


def _turns(segments: Sequence[Segment], chat: ChatFormat) -> Iterator[tuple[Speaker, str]]:
    opened: dict[str, Speaker] = {chat.system[0]: "system", chat.user[0]: "user", chat.assistant[0]: "assistant"}
    closed = {chat.system[1], chat.user[1], chat.assistant[1]}
    marks = sorted({chat.begin, *opened, *closed} - {""}, key=len, reverse=True)
    pattern = re.compile("(" + "|".join(map(re.escape, marks)) + ")")
    speaker: Speaker = "user"
    for segment in segments:
        for piece in pattern.split(segment.text) if segment.source is Source.PROMPT else [segment.text]:
            if piece in opened:
                speaker = opened[piece]
            elif piece and piece not in marks:
                yield speaker, piece
