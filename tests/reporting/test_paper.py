"""A paper's table for a terminal: columns that have nothing to say are left out."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console

from rest_jax.reporting.paper import LEGEND, paper_table


@dataclass(frozen=True)
class Shown:
    name: str
    paper: str = "50"
    ours: str = "45.0"
    n: int | None = 100
    interval: tuple[float, float] | None = (40.0, 50.0)
    differs: str = "a small model"
    calls: float | None = None
    tokens: float | None = None


def lines(*rows: Shown) -> list[str]:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(paper_table("A paper", rows, ["a − b, em: +1.0 points"], ["a note"]))
    return [" ".join(line.split()) for line in capture.get().splitlines()]


def test_what_a_trajectory_took_stands_where_it_is_known() -> None:
    assert lines(Shown("row"), Shown("none", ours="not run", n=None, interval=None)) == [
        "A paper",
        "paper ours: EM % n 95 % what differs",
        "row 50 45.0 100 40.0–50.0 a small model",
        "none 50 not run – – a small model",
        "a − b, em: +1.0 points",
        "a note",
    ]
    assert lines(Shown("row", tokens=812.4), Shown("five", calls=4.25, tokens=90)) == [
        "A paper",
        "paper ours: EM % n 95 % calls tokens what differs",
        "row 50 45.0 100 40.0–50.0 – 812 a small model",
        "five 50 45.0 100 40.0–50.0 4.2 90 a small model",
        "a − b, em: +1.0 points",
        LEGEND,
        "a note",
    ]
    assert "calls" not in lines(Shown("row", tokens=812.4))[1].split()
