"""metrics.jsonl: what came, a line each, in the order in which it came."""

from __future__ import annotations

import json
from pathlib import Path

from rest_jax.core.events import Event, notice, warning
from rest_jax.reporting.metrics_file import MetricsFile


def test_metrics_warnings_and_stage_ends_are_appended_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.jsonl"
    with MetricsFile(path) as metrics:
        notice(metrics, "for people")
        metrics(Event("progress", {"done": 1}))
        assert not path.exists()
        metrics(Event("metrics", {"stage": "improve", "step": 1, "loss": float("nan")}))
        assert path.read_text().endswith("\n"), "a line is there as soon as it came"
    with MetricsFile(path) as metrics:
        warning(metrics, "Ô")
        metrics(Event("stage_finished", {"stage": "improve", "seconds": 2.0, "skipped": False}))
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert all(line.pop("time") > 0 for line in lines)
    assert lines == [
        {"kind": "metrics", "stage": "improve", "step": 1, "loss": None},
        {"kind": "warning", "text": "Ô"},
        {"kind": "stage_finished", "stage": "improve", "seconds": 2.0, "skipped": False},
    ]
