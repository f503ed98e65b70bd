"""Progress travels upward as events: whoever works emits, whoever shows or records listens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


def remembering(warnings: list[str], emit: Listener, keep: Callable[[], None] = lambda: None) -> Listener:
    """A listener that adds every warning's text to `warnings` once, and calls `keep` when it did."""

    def listen(event: Event) -> None:
        if event.kind == "warning" and event.data["text"] not in warnings:
            warnings.append(event.data["text"])
            keep()
        emit(event)

    return listen


def notice(emit: Listener, text: str) -> None:
    emit(Event("notice", {"text": text}))


def warning(emit: Listener, text: str) -> None:
    emit(Event("warning", {"text": text}))
