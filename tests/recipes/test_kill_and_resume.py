"""kill -9 at random moments, the adapter too: the run ends in the same digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.kill_and_resume import kill_and_resume


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_run_killed_again_and_again_ends_in_the_same_digest(tiny_config: Path, tmp_path: Path) -> None:
    result = kill_and_resume(tiny_config, tmp_path, kills=6, longest_s=12.0)
    assert result.same_digest
    assert result.kills >= 3
    assert result.most_steps_repeated <= 2
    assert result.orphans == 0
