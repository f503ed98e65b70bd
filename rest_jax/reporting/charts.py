"""Small static SVG charts: no script, no font, no network; every label is escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 460, 240
LEFT, RIGHT, TOP, BOTTOM = 48, 26, 14, 46
LEGEND_TOP = 46
"""Below the top, where a rate near 1 would cross it."""


@dataclass(frozen=True)
class Series:
    """A named line: points (x, y) and, where known, intervals (low, high) of y."""

    name: str
    points: Sequence[tuple[float, float]]
    intervals: Sequence[tuple[float, float] | None] = ()


def lines(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    y_range: tuple[float, float] | None = None,
    x_names: Sequence[str] = (),
) -> str:
    """Lines with interval bars. `x_names` replace the numbers 0, 1, 2 … on the x axis."""
    xs = [x for line in series for x, _ in line.points]
    ys = [y for line in series for _, y in line.points]
    ys += [end for line in series for pair in line.intervals if pair for end in pair]
    if not xs:
        return ""
    frame = _Frame.around(xs, ys, y_range)
    parts = [_axes(frame, x_label, y_label, x_names)]
    for place, line in enumerate(series):
        path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in line.points)
        parts.append(f'<polyline class="line s{place % 6}" points="{path}"/>')
        if len(line.points) <= 40:
            parts += [
                f'<circle class="dot s{place % 6}" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="3"/>'
                for x, y in line.points
            ]
        for (x, _), pair in zip(line.points, line.intervals, strict=False):
            if pair:
                low, high = frame.y(pair[0]), frame.y(pair[1])
                at = f"{frame.x(x):.1f}"
                parts.append(f'<line class="bar s{place % 6}" x1="{at}" x2="{at}" y1="{low:.1f}" y2="{high:.1f}"/>')
    parts += _legend([line.name for line in series])
    return _svg(parts, f"{y_label} by {x_label}")


def histogram(values: Sequence[float], *, x_label: str, bins: int = 20) -> str:
    """Counts of values in [0, 1]."""
    if not values:
        return ""
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, max(0, int(value * bins)))] += 1
    frame = _Frame(0.0, 1.0, 0.0, float(max(counts)))
    parts = [_axes(frame, x_label, "trajectories", ())]
    for place, count in enumerate(counts):
        low, high = place / bins, (place + 1) / bins
        left, right, top = frame.x(low), frame.x(high), frame.y(count)
        parts.append(
            f'<rect class="fill" x="{left + 0.5:.1f}" y="{top:.1f}" width="{right - left - 1:.1f}" '
            f'height="{frame.y(0) - top:.1f}"><title>{count} in {low:.2f}–{high:.2f}</title></rect>'
        )
    return _svg(parts, f"histogram of {x_label}")


@dataclass(frozen=True)
class _Frame:
    x_low: float
    x_high: float
    y_low: float
    y_high: float

    @staticmethod
    def around(xs: Sequence[float], ys: Sequence[float], y_range: tuple[float, float] | None) -> _Frame:
        low, high = y_range or (min(0.0, *ys, 0.0), max(*ys, 1e-9) * 1.08)
        return _Frame(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1, low, high)

    def x(self, value: float) -> float:
        return LEFT + (value - self.x_low) / (self.x_high - self.x_low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / ((self.y_high - self.y_low) or 1)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _axes(frame: _Frame, x_label: str, y_label: str, x_names: Sequence[str]) -> str:
    base = HEIGHT - BOTTOM
    parts = [f'<path class="axis" d="M{LEFT},{TOP}V{base}H{WIDTH - RIGHT}"/>']
    for tick in _ticks(frame.y_low, frame.y_high):
        y = f"{frame.y(tick):.1f}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y}" dy="3.5" text-anchor="end">{tick:g}</text>')
    named = list(enumerate(x_names)) or [(tick, f"{tick:g}") for tick in _ticks(frame.x_low, frame.x_high)]
    for tick, name in named:
        parts.append(
            f'<text class="tick" x="{frame.x(tick):.1f}" y="{base + 15}" text-anchor="middle">'
            f"{escape(str(name))}</text>"
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="label" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(
        f'<text class="label" transform="translate(12 {(TOP + base) / 2}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text>'
    )
    return "".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low]
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 5)
    first = math.ceil(low / step)
    return [round(k * step, 10) for k in range(first, int(high / step + 1e-9) + 1)]


def _legend(names: Sequence[str]) -> list[str]:
    if len(names) < 2:
        return []
    return [
        f'<rect class="key s{place % 6}" x="{LEFT + 8}" y="{LEGEND_TOP + 14 * place}" width="10" height="3"/>'
        f'<text class="tick" x="{LEFT + 22}" y="{LEGEND_TOP + 4 + 14 * place}">{escape(name)}</text>'
        for place, name in enumerate(names)
    ]


def _svg(parts: Sequence[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )
