"""What the adapter has answered, counted: calls, their latencies, and what is in flight, as Prometheus reads them.

rest_jax_tool_calls_total{tool, outcome, cache}   outcome: ok, or the kind of failure; cache: hit, miss, replay, bypass
rest_jax_tool_attempts_total{tool}                how often tools were run for them
rest_jax_tool_latency_seconds{tool}               a histogram
rest_jax_tool_calls_in_flight{tool}               a gauge
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

from rest_jax.tools.protocol import Result

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
CALLS = "rest_jax_tool_calls_total"
ATTEMPTS = "rest_jax_tool_attempts_total"
LATENCY = "rest_jax_tool_latency_seconds"
IN_FLIGHT = "rest_jax_tool_calls_in_flight"

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0, 300.0)
"""Upper bounds of the histogram's buckets, in seconds."""

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Sample:
    """A line of Prometheus' text."""

    name: str
    labels: Mapping[str, str]
    value: float


class Metrics:
    """The counters of one adapter. Calls of tools that are not there are not counted: their names are the caller's."""

    def __init__(self, tools: Iterable[str]) -> None:
        self._calls: Counter[tuple[str, str, str]] = Counter()
        self._attempts: Counter[str] = Counter()
        self._in_flight: dict[str, int] = dict.fromkeys(tools, 0)
        self._buckets: dict[str, list[int]] = {tool: [0] * (len(BOUNDS_S) + 1) for tool in self._in_flight}
        self._seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def in_flight(self, tool: str) -> Iterator[None]:
        """A call that is being answered."""
        self._in_flight[tool] += 1
        try:
            yield
        finally:
            self._in_flight[tool] -= 1

    def count(self, tool: str, result: Result, seconds: float) -> None:
        """A call that was answered."""
        fault = result.reply.fault
        self._calls[tool, fault.kind if fault else "ok", result.cache] += 1
        self._attempts[tool] += result.attempts
        self._buckets[tool][bisect_left(BOUNDS_S, seconds)] += 1
        self._seconds[tool] += seconds

    def text(self) -> str:
        """All of them in Prometheus' text format."""
        lines = [f"# TYPE {CALLS} counter"]
        lines += [
            _line(CALLS, (("tool", tool), ("outcome", outcome), ("cache", cache)), value)
            for (tool, outcome, cache), value in sorted(self._calls.items())
        ]
        lines.append(f"# TYPE {ATTEMPTS} counter")
        lines += [_line(ATTEMPTS, (("tool", tool),), self._attempts[tool]) for tool in self._in_flight]
        lines.append(f"# TYPE {LATENCY} histogram")
        for tool, buckets in self._buckets.items():
            total = 0
            for bound, value in zip((*BOUNDS_S, "+Inf"), buckets, strict=True):
                total += value
                lines.append(_line(f"{LATENCY}_bucket", (("tool", tool), ("le", str(bound))), total))
            lines.append(_line(f"{LATENCY}_sum", (("tool", tool),), self._seconds[tool]))
            lines.append(_line(f"{LATENCY}_count", (("tool", tool),), total))
        lines.append(f"# TYPE {IN_FLIGHT} gauge")
        lines += [_line(IN_FLIGHT, (("tool", tool),), value) for tool, value in self._in_flight.items()]
        return "\n".join(lines) + "\n"


_SAMPLE = re.compile(r'([a-z_]+)\{((?:[a-z]+="(?:[^"\\]|\\.)*",?)*)\} (\S+)')
_LABEL = re.compile(r'([a-z]+)="((?:[^"\\]|\\.)*)"')


def parse(text: str) -> tuple[Sample, ...]:
    """The samples of a text that `Metrics.text` wrote. Raises ValueError for any other."""
    samples = []
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        match = _SAMPLE.fullmatch(line)
        if match is None:
            raise ValueError(f"not a tool adapter's metrics: {line[:80]!r}")
        name, labels, value = match.groups()
        read = {key: re.sub(r"\\(.)", _unescaped, raw) for key, raw in _LABEL.findall(labels)}
        samples.append(Sample(name, read, float(value)))
    return tuple(samples)


def summed(ended: Iterable[Sample], last: Iterable[Sample]) -> tuple[Sample, ...]:
    """The metrics of an adapter that was restarted: what has ended is in flight no more."""
    total: defaultdict[tuple[str, Labels], float] = defaultdict(float)
    for sample in (*(sample for sample in ended if sample.name != IN_FLIGHT), *last):
        total[sample.name, tuple(sample.labels.items())] += sample.value
    return tuple(Sample(name, dict(labels), value) for (name, labels), value in total.items())


def quantile_s(samples: Iterable[Sample], tool: str, share: float) -> float | None:
    """The latency in seconds below which `share` of a tool's calls stay, interpolated within its bucket as Prometheus
    does; the last finite bound where it lies beyond. None without calls."""
    counts = sorted(
        (float(sample.labels["le"]), sample.value)
        for sample in samples
        if sample.name == f"{LATENCY}_bucket" and sample.labels["tool"] == tool
    )
    if not counts or counts[-1][1] == 0:
        return None
    wanted = share * counts[-1][1]
    for (lower, below), (upper, upto) in pairwise([(0.0, 0.0), *counts]):
        if upto >= wanted:
            return lower if upper == float("inf") else lower + (upper - lower) * (wanted - below) / (upto - below or 1)
    return None


def _line(name: str, labels: Labels, value: float) -> str:
    written = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
    return f"{name}{{{written}}} {value:.9g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _unescaped(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]
