"""What was answered, counted: Prometheus reads the text, and so do we."""

from __future__ import annotations

import math

import pytest

from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.tools.metrics import ATTEMPTS, CALLS, IN_FLIGHT, Metrics, parse, quantile_s, summed
from rest_jax.tools.protocol import CacheStatus, Result, failure

WELL = Result(1, ToolReply("x"), cache=CacheStatus.MISS, attempts=3)
FAILED = failure(2, ToolErrorKind.TIMEOUT, "slow")
HOSTILE = 'a"b\\n\n}'


def counted(*seconds: float, tool: str = "search") -> Metrics:
    metrics = Metrics([tool])
    for each in seconds:
        metrics.count(tool, WELL, each)
    return metrics


def values(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    return {tuple(s.labels.values()): s.value for s in parse(metrics.text()) if s.name == name}


def test_calls_are_told_apart_by_tool_outcome_and_cache() -> None:
    metrics = counted(0.1, 0.1, tool=HOSTILE)
    metrics.count(HOSTILE, FAILED, 20)
    assert values(metrics, CALLS) == {(HOSTILE, "ok", "miss"): 2, (HOSTILE, "timeout", "bypass"): 1}
    assert values(metrics, ATTEMPTS) == {(HOSTILE,): 7}
    with metrics.in_flight(HOSTILE):
        assert values(metrics, IN_FLIGHT) == {(HOSTILE,): 1}
    assert values(metrics, IN_FLIGHT) == {(HOSTILE,): 0}


def test_the_histogram_is_cumulative() -> None:
    metrics = counted(0.0005, 0.001, 0.3, 1000)
    buckets = values(metrics, "rest_jax_tool_latency_seconds_bucket")
    assert (buckets["search", "0.001"], buckets["search", "0.25"], buckets["search", "0.5"]) == (2, 2, 3)
    assert (buckets["search", "300.0"], buckets["search", "+Inf"]) == (3, 4)
    assert values(metrics, "rest_jax_tool_latency_seconds_count") == {("search",): 4}
    assert math.isclose(values(metrics, "rest_jax_tool_latency_seconds_sum")["search",], 1000.3015)


def test_quantiles_are_interpolated_within_their_bucket() -> None:
    samples = parse(counted(*[0.02] * 90, *[0.4] * 10).text())
    assert quantile_s(samples, "search", 0.5) == pytest.approx(0.01 + 0.015 * 50 / 90)
    assert quantile_s(samples, "search", 0.95) == pytest.approx(0.25 + 0.25 / 2)
    assert quantile_s(parse(counted(1000).text()), "search", 0.5) == 300
    assert quantile_s(parse(counted().text()), "search", 0.5) is None
    assert quantile_s(samples, "none", 0.5) is None


def test_what_a_restart_ended_is_added_but_no_longer_in_flight() -> None:
    ended, last = counted(0.1), counted(0.1, 0.1)
    with ended.in_flight("search"), last.in_flight("search"):
        both = summed(parse(ended.text()), parse(last.text()))
    by_name = {sample.name: sample.value for sample in both}
    assert (by_name[CALLS], by_name[IN_FLIGHT]) == (3, 1)
    assert quantile_s(both, "search", 0.5) is not None


@pytest.mark.parametrize("text", ["<html>", "rest_jax 1", "a{b} 1", 'a{b="c"} x'])
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)
