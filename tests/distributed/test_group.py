"""Processes of one run: what they tell each other, and that none outlives the failure of another."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from rest_jax.distributed.group import Group
from tests.processes import by_hand, free_port, together

SCRIPT = Path(__file__).with_name("group_process.py")
NUMBERS = 40
pytestmark = pytest.mark.multiprocess


def both(what: str) -> list[tuple[int, list[str]]]:
    """Exit code and lines of two processes that do it."""
    port, devices = free_port(), {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    environs = [{**by_hand(2, index, port), **devices} for index in range(2)]
    ended = together([[sys.executable, str(SCRIPT), what]] * 2, environs)
    return [(code, [line for line in out.splitlines() if "[Gloo]" not in line]) for code, out in ended]


def test_they_hear_each_other_and_no_two_get_one_number() -> None:
    (code, (first,)), (other_code, (second,)) = both("talks")
    assert (code, other_code) == (0, 0)
    here, there = json.loads(first), json.loads(second)
    assert here["all"] == there["all"] == [{"from": 0}, {"from": 1}]
    assert here["first"] == there["first"] == 0
    assert sorted(here["took"] + there["took"]) == list(range(NUMBERS))
    assert here["devices"] == there["devices"] == [0, 1]
    assert here["uneven"].startswith("mesh: 3 devices do not divide over 2 processes; set data, fsdp and tensor so")
    assert here["whole"] == there["whole"] == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("where", ["fails_while_one_waits_for_a_word", "fails_while_one_waits_in_a_collective"])
def test_who_fails_ends_all_and_says_why_once(where: str) -> None:
    (code, waited), (failed_code, failed) = both(where)
    assert (failed_code, failed) == (2, ["error: no room; free some"])
    assert (code, waited) == (1, ["rest-jax: process 1 of 2 failed, so this one ends too"])


def test_what_fails_in_all_is_said_once() -> None:
    ended = sorted(both("fails_in_both"), reverse=True)
    assert ended[0] == (2, ["error: no room; free some"])
    (code, (said,)) = ended[1]
    assert code == 1
    assert said.endswith("of 2 failed, so this one ends too")


def test_alone_there_is_nobody_to_wait_for() -> None:
    alone = Group()
    assert alone.first
    assert alone.shared("word") == ["word"]
    assert alone.told("word") == "word"
    takes, others = alone.counter(), alone.counter()
    assert [takes(), takes(), others()] == [0, 1, 0]
