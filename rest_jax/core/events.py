"""Progress travels upward as events: whoever works emits, whoever shows or records listens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Event:
    """Something that happened, with its numbers. `kind` is one of the kinds below.

    stage_started     stage
    stage_finished    stage, seconds, skipped
    progress          stage, done, total, unit, and any rates
    metrics           stage, step, and named numbers (also written to metrics.jsonl)
    notice            text: one line for the user
    warning           text: one line for the user, shown in every report
    """

    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)


class Listener(Protocol):
    def __call__(self, event: Event) -> None: ...


def silent(event: Event) -> None:
    """A listener for those who do not care."""


def to_both(one: Listener, other: Listener) -> Listener:
    """A listener that tells two others, in this order."""

    def tell(event: Event) -> None:
        one(event)
        other(event)

    return tell


def notice(emit: Listener, text: str) -> None:
    emit(Event("notice", {"text": text}))


def warning(emit: Listener, text: str) -> None:
    emit(Event("warning", {"text": text}))
