"""Where a run stands, from its folder: stages, trajectories of the one in progress, and how its tools do."""

from __future__ import annotations

import http.client
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from rest_jax.core.files import parts_of
from rest_jax.recipes.stages import CLOCK, JOURNAL, STAGES, SUMMARY, finished_stages
from rest_jax.rollout.journal import progress
from rest_jax.tools import watch
from rest_jax.tools.metrics import CALLS, IN_FLIGHT, Sample, quantile_s

LOOK_S = 2.0
"""How long an adapter may take to say how it does."""


def status(run: Path) -> list[str]:
    """The status, in lines. Raises UserError when the folder is no run's."""
    done = finished_stages(run)
    finished = (run / SUMMARY).is_file()
    seconds = sum(stage.seconds for stage in done)
    lines = [f"{run}: {'finished' if finished else 'not finished'}, {len(done)} stages done in {seconds:.0f} s"]
    lines += [f"  {stage.name}: done, {stage.seconds:.0f} s" for stage in done]
    lines += [f"  {line}" for line in _in_progress(run / STAGES)]
    return [*lines, *_tools(run)]


def _in_progress(stages: Path) -> Iterator[str]:
    for clock in sorted(stages.rglob(CLOCK)):
        name = clock.parent.relative_to(stages).as_posix()
        if parts_of(journal := clock.parent / JOURNAL):
            begun, finished = progress(journal)
            yield f"{name}: {finished} trajectories finished, {begun - finished} begun"
        else:
            yield f"{name}: begun"


def _tools(run: Path) -> list[str]:
    try:
        record = watch.read(run)
    except OSError as error:  # it is for the user alone whose run it is
        return [f"tools: {run / watch.RECORD} cannot be read ({error.strerror}); ask as the user whose run it is"]
    if record is None:
        return ["tools: no adapter was started yet"]
    samples, now = record.samples, False
    try:
        if record.pid is None:
            samples, now = watch.look(record.url, LOOK_S), True
        else:  # the run notes its own adapter's metrics all the time; its port may be another's by now
            now = watch.pid_at(record.url, LOOK_S, record.token) == record.pid
    except (OSError, ValueError, http.client.HTTPException):
        pass
    noted = datetime.fromtimestamp((run / watch.RECORD).stat().st_mtime).isoformat(" ", "seconds")
    alive = "answers" if now else f"does not answer; as of {noted}"
    return [
        f"tools: the adapter at {record.url} {alive}; {record.restarts} restarts",
        *(f"  {_tool(samples, tool, now)}" for tool in sorted({sample.labels["tool"] for sample in samples})),
    ]


def _tool(samples: Iterable[Sample], tool: str, now: bool) -> str:
    own = [sample for sample in samples if sample.labels["tool"] == tool]
    outcomes, caches = Counter[str](), Counter[str]()
    for sample in own:
        if sample.name == CALLS:
            outcomes[sample.labels["outcome"]] += int(sample.value)
            caches[sample.labels["cache"]] += int(sample.value)
    calls = outcomes.total()
    told = sorted(outcomes.items(), key=lambda outcome: (outcome[0] != "ok", -outcome[1]))
    parts = [f"{calls} calls", *(f"{count} {kind}" for kind, count in told)]
    if calls:
        from_cache = caches["hit"] + caches["replay"]
        parts.append(f"{from_cache / calls:.0%} from the cache")
    p50, p95 = quantile_s(own, tool, 0.5), quantile_s(own, tool, 0.95)
    if p50 is not None and p95 is not None:
        parts.append(f"p50 {1000 * p50:.3g} ms, p95 {1000 * p95:.3g} ms")
    if now:
        parts.append(f"{sum(int(sample.value) for sample in own if sample.name == IN_FLIGHT)} in flight")
    return f"{tool}: {', '.join(parts)}"
