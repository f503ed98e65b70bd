"""The soak: trajectories are entered once, what must not be is told, and tools that fail in every way are survived."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import soak
from benchmarks.failing_tools import FAULTS, cursed
from rest_jax.core.effects import Status
from rest_jax.core.trajectory import Question, Trajectory
from rest_jax.tasks.rewards import answer_reward

QUESTIONS = {id: Question(id, "Who?", "Ada") for id in ("good", "hopeless")}
GOOD = Trajectory("good", "Who?", 0, 0, 0, "react", "atlas", "train", Status.FINISHED, "Ada", "", (), (), "t", "w")
HOPELESS = replace(GOOD, question_id="hopeless", status=Status.TOOL_FAILURE, answer=None)


def entered(*trajectories: Trajectory) -> soak.Ledger:
    ledger = soak.Ledger(
        QUESTIONS, frozenset({"hopeless"}), came={("good", 0): 0, ("hopeless", 0): 0}, reward=answer_reward
    )
    for trajectory in trajectories:
        ledger.enter(trajectory)
    return ledger


def test_a_clean_ledger_tells_nothing() -> None:
    ledger = entered(GOOD, HOPELESS)
    assert ledger.faults() == []
    assert ledger.unlucky == 0
    assert entered(HOPELESS, replace(GOOD, status=Status.TOOL_FAILURE, answer=None)).unlucky == 1


@pytest.mark.parametrize(
    ("trajectories", "told"),
    [
        ([GOOD], "hopeless#0 came 0 times"),
        ([GOOD, GOOD, HOPELESS], "good#0 came 2 times"),
        ([GOOD, replace(HOPELESS, status=Status.FINISHED, answer="Ada")], "hopeless#0 ended as finished"),
        ([replace(GOOD, status=Status.STEP_LIMIT, answer=None), HOPELESS], "good#0 ended as step_limit"),
        ([replace(GOOD, answer="Bob"), HOPELESS], "said the gold answer and got no reward"),
    ],
)
def test_what_must_not_be_is_told(trajectories: list[Trajectory], told: str) -> None:
    assert told in "\n".join(entered(*trajectories).faults())


def test_a_failure_that_is_rewarded_is_told() -> None:
    ledger = soak.Ledger(QUESTIONS, frozenset({"hopeless"}), {("hopeless", 0): 0}, reward=lambda *_: 0.0)
    ledger.enter(HOPELESS)
    assert "hopeless#0 ended as tool_failure with reward 0.0" in ledger.faults()


def test_the_slope_is_that_of_the_last_three_quarters() -> None:
    samples = [soak.Sample(done, rss=1000, adapter_rss=0, files=0, sockets=0, threads=1) for done in (10, 20)]
    samples += [replace(samples[0], done=done, rss=5000 + 7 * done) for done in range(30, 90, 10)]
    assert soak.slope(samples) == pytest.approx(7)


def test_curses_are_rare_and_the_same_each_time() -> None:
    queries = [f"query {n}" for n in range(4000)]
    met = [query for query in queries if cursed(query, 0)]
    assert 0 < len(met) < 100
    assert met == [query for query in queries if cursed(query, 0)] != [query for query in queries if cursed(query, 1)]
    assert sum(FAULTS.values()) < 0.2


@pytest.mark.slow
@pytest.mark.multiprocess
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_short_soak_accounts_for_all(tmp_path: Path) -> None:
    assert soak.main(["--json", str(tmp_path / "out.json"), "--quick"]) == 0
    told = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    (row,) = told["rows"]
    assert row["came_once"] == row["trajectories"] == sum(row["statuses"].values()) == soak.QUICK
    assert row["statuses"].keys() <= {"finished", "tool_failure"}
    assert row["statuses"].get("tool_failure", 0) == row["hopeless"] + row["unlucky"]
    assert row["attempts"] > row["trajectories"]
    assert row["parks"] > 0
    assert len({one["files"] for one in row["samples"][25:]}) == 1
    assert len({one["threads"] for one in row["samples"][25:]}) == 1
