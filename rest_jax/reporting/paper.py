"""A paper's table beside ours, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text


class Line(Protocol):
    """What is shown of a row."""

    @property
    def name(self) -> str: ...
    @property
    def paper(self) -> str: ...
    @property
    def ours(self) -> str: ...
    @property
    def n(self) -> int | None: ...
    @property
    def interval(self) -> tuple[float, float] | None: ...
    @property
    def differs(self) -> str: ...
    @property
    def calls(self) -> float | None: ...
    @property
    def tokens(self) -> float | None: ...


COSTS = (("calls", "{:.1f}"), ("tokens", "{:.0f}"))
"""Columns of a line's numbers; one without any is left out."""
LEGEND = "calls of the model and sampled tokens: of a trajectory"


def paper_table(title: str, lines: Sequence[Line], controlled: Sequence[str], notes: Sequence[str]) -> RenderableType:
    """The lines under *paper | ours | n | interval | what they took | what differs*; below stand the differences to
    controls, then the notes."""
    costs = [(name, shown) for name, shown in COSTS if any(getattr(line, name) is not None for line in lines)]
    table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("")
    for heading in ("paper", "ours: EM %", "n", "95 %", *(name for name, _ in costs)):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("what differs")
    for line in lines:
        n = "–" if line.n is None else str(line.n)
        interval = "–" if line.interval is None else f"{line.interval[0]:.1f}–{line.interval[1]:.1f}"
        took = [_number(getattr(line, name), shown) for name, shown in costs]
        table.add_row(*map(Text, (line.name, line.paper, line.ours, n, interval, *took, line.differs)))
    legend = [LEGEND] if costs else []
    return Group(table, *map(Text, controlled), *(Text(note, style="dim") for note in (*legend, *notes)))


def _number(value: float | None, shown: str) -> str:
    return "–" if value is None else shown.format(value)
