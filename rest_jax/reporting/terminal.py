"""Progress for people: a live line with an ETA on a terminal, one plain line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from rest_jax.core.events import Event
from rest_jax.core.text import printable


class Terminal:
    """A listener that shows a run. Use it as a context manager, so that the live line is always taken down.

    `plain_seconds` is the least time between two progress lines where there is no terminal.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        plain_seconds: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._live = (
            Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[eta]}"),
                console=self._console,
                transient=True,
            )
            if self._console.is_terminal
            else None
        )
        self._plain_seconds = plain_seconds
        self._clock = clock
        self._bar: TaskID | None = None
        self._stage = ""
        self._counted = ""
        """The unit of what is being counted."""
        self._begun = clock()
        self._first_done = 0
        self._last_line = float("-inf")

    def __enter__(self) -> Terminal:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._take_down()
        if self._live:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        handler = {
            "stage_started": self._started,
            "stage_finished": self._finished,
            "progress": self._progress,
            "notice": lambda data: self._line(data["text"], ""),
            "warning": lambda data: self._line(f"warning: {data['text']}", "yellow"),
        }.get(event.kind)
        if handler:
            handler(dict(event.data))

    def _started(self, data: dict[str, Any]) -> None:
        self._take_down()
        self._stage = data["stage"]
        self._counted = ""
        self._last_line = float("-inf")

    def _finished(self, data: dict[str, Any]) -> None:
        self._take_down()
        note = "already done" if data["skipped"] else _duration(data["seconds"])
        self._line(f"✓ {data['stage']}  {note}", "dim" if data["skipped"] else "green")

    def _progress(self, data: dict[str, Any]) -> None:
        done, total = data["done"], data["total"]
        stage = self._stage or data["stage"]
        if self._counted != data["unit"]:
            # A resumed stage starts with work already done: the rate counts only what this process did. And a stage
            # may count one thing after another, programs and then trajectories.
            self._take_down()
            self._counted, self._first_done, self._begun = data["unit"], done, self._clock()
        eta = self._eta(done, total)
        note = "  ".join(f"{key} {_number(entry)}" for key, entry in data.items() if key not in _PROGRESS_KEYS)
        if self._live:
            if self._bar is None:
                self._bar = self._live.add_task(stage, total=total, note=note, eta=eta)
            self._live.update(self._bar, completed=done, total=total, note=note, eta=eta)
        elif self._clock() - self._last_line >= self._plain_seconds or done == total:
            self._last_line = self._clock()
            self._line(f"  {stage}  {done}/{total} {data['unit']}  {note}  {eta}".rstrip(), "")

    def _eta(self, done: int, total: int) -> str:
        fresh = done - self._first_done
        if fresh <= 0 or done >= total:
            return ""
        return f"{_duration((self._clock() - self._begun) / fresh * (total - done))} left"

    def _take_down(self) -> None:
        if self._live and self._bar is not None:
            self._live.remove_task(self._bar)
            self._bar = None

    def _line(self, text: str, style: str) -> None:
        # Text, not markup: a path or a model's word may hold square brackets.
        self._console.print(Text(printable(text), style=style), soft_wrap=True)


_PROGRESS_KEYS = {"stage", "done", "total", "unit"}


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _number(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
