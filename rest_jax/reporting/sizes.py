"""Dataclasses of one kind as lines of text, in columns under their fields' names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any


def sizes(rows: Sequence[Any]) -> list[str]:
    """A heading and a line for each row: text to the left, numbers to the right, an en dash for None."""
    plain = [asdict(row) for row in rows]
    if not plain:
        return []
    names = [name.replace("_", " ") for name in plain[0]]
    cells = [names, *([_cell(value) for value in row.values()] for row in plain)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    left = [isinstance(value, str) for value in plain[0].values()]
    return ["  ".join(_aligned(*cell) for cell in zip(line, widths, left, strict=True)).rstrip() for line in cells]


def _aligned(cell: str, width: int, left: bool) -> str:
    return cell.ljust(width) if left else cell.rjust(width)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
