"""Progress as people see it, with and without a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from rest_jax.core.events import Event
from rest_jax.reporting.terminal import Terminal


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def drive(listener: Terminal, clock: Clock) -> None:
    listener(Event("stage_started", {"stage": "grow"}))
    for done in range(0, 101, 10):
        clock.now += 2.0
        listener(
            Event("progress", {"stage": "grow", "done": done, "total": 100, "unit": "trajectories", "tok_s": 81.234})
        )
    listener(Event("stage_finished", {"stage": "grow", "seconds": 22.0, "skipped": False}))


def test_plain_output_is_a_line_every_few_seconds_with_an_eta() -> None:
    out, clock = io.StringIO(), Clock()
    with Terminal(Console(file=out, force_terminal=False, width=200), plain_seconds=5.0, clock=clock) as listener:
        drive(listener, clock)
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("  grow  0/100 trajectories")
    assert lines[1] == "  grow  30/100 trajectories  tok_s 81.2  14 s left"
    assert lines[-1] == "✓ grow  22 s"
    assert len(lines) == 6


def test_a_resumed_stage_counts_its_rate_from_where_it_began() -> None:
    out, clock = io.StringIO(), Clock()
    with Terminal(Console(file=out, force_terminal=False, width=200), plain_seconds=0, clock=clock) as listener:
        listener(Event("stage_started", {"stage": "grow"}))
        counted = {"stage": "grow", "total": 100, "unit": "trajectories"}
        listener(Event("progress", {**counted, "done": 90}))
        clock.now = 10.0
        listener(Event("progress", {**counted, "done": 95}))
    assert "10 s left" in out.getvalue().splitlines()[-1]


def test_what_is_compiled_first_is_counted_apart() -> None:
    out, clock = io.StringIO(), Clock()
    with Terminal(Console(file=out, force_terminal=False, width=200), plain_seconds=0, clock=clock) as listener:
        listener(Event("progress", {"stage": "compile", "done": 8, "total": 8, "unit": "programs"}))
        clock.now = 30.0
        listener(Event("stage_started", {"stage": "grow"}))
        listener(Event("progress", {"stage": "grow", "done": 1, "total": 2, "unit": "programs"}))
        listener(Event("progress", {"stage": "grow", "done": 0, "total": 10, "unit": "trajectories"}))
        clock.now = 40.0
        listener(Event("progress", {"stage": "grow", "done": 5, "total": 10, "unit": "trajectories"}))
    lines = out.getvalue().splitlines()
    assert lines[0] == "  compile  8/8 programs"
    assert lines[-1] == "  grow  5/10 trajectories    10 s left"


def test_rates_of_thousands_are_written_out() -> None:
    out = io.StringIO()
    with Terminal(Console(file=out, force_terminal=False, width=200)) as listener:
        listener(Event("progress", {"stage": "grow", "done": 1, "total": 1, "unit": "trajectories", "tok_s": 2048.7}))
    assert "tok_s 2,049" in out.getvalue()


def test_text_with_brackets_is_shown_as_it_is() -> None:
    out = io.StringIO()
    with Terminal(Console(file=out, force_terminal=False)) as listener:
        listener(Event("notice", {"text": "Search[bold red]X[/] is no markup"}))
    assert out.getvalue() == "Search[bold red]X[/] is no markup\n"


def test_live_terminal_takes_its_line_down() -> None:
    out, clock = io.StringIO(), Clock()
    with Terminal(Console(file=out, force_terminal=True, width=120), clock=clock) as listener:
        drive(listener, clock)
    assert "✓ grow" in out.getvalue()
