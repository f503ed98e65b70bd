"""kill -9 or SIGTERM within every kind of stage and before the adapter is up, kill -9 of it alone: the same digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.kill_and_resume import KINDS, kill_and_resume


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_run_killed_again_and_again_ends_in_the_same_digest(tiny_config: Path, tmp_path: Path) -> None:
    result = kill_and_resume(tiny_config, tmp_path, kills=10)
    assert result.same_digest
    assert {kill.kind for kill in result.kills} == set(KINDS)
    assert {kill.by for kill in result.kills} == {"SIGKILL", "SIGTERM"}
    assert len(result.kills) + len(result.missed) == 10
    assert result.within_bounds
    assert max(kill.in_flight for kill in result.kills) > 0
    assert max(kill.recomputed for kill in result.kills) > 0
    assert result.orphans == 0
