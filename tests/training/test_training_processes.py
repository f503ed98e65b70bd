"""A fit in a process of its own: killed at any moment it goes on in the same bits; without room it says so."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
pytestmark = [pytest.mark.slow, pytest.mark.multiprocess]


def start(*arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE)])}
    return subprocess.Popen(
        [sys.executable, HERE / "fit_process.py", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def finish(folder):
    """Steps that the process made, and the digest of what it ended with."""
    process = start(folder)
    out, err = process.communicate()
    assert process.returncode == 0, err
    *steps, done = map(json.loads, out.splitlines())
    return [line["step"] for line in steps], done["done"]


def kill_after(folder, count):
    """Kill -9 as soon as the process tells of its `count`th step, while it keeps that step's checkpoint."""
    with start(folder) as process:
        for _ in range(count):
            last = json.loads(process.stdout.readline())["step"]
        process.kill()
    return last


def test_killed_again_and_again_it_ends_in_the_same_bits(tmp_path):
    steps, expected = finish(tmp_path / "whole")
    assert steps == list(range(1, 13))
    ended = 0
    for count in (1, 3, 2, 1):
        last = kill_after(tmp_path / "killed", count)
        assert last - count in (ended - 1, ended)
        ended = last
    steps, digest = finish(tmp_path / "killed")
    assert digest == expected
    assert steps[0] in (ended, ended + 1)


def test_without_room_for_a_checkpoint_it_says_so(tmp_path):
    process = start(tmp_path / "full", 4096)
    _, err = process.communicate()
    assert process.returncode == 2, err
    assert "the checkpoint after step 1 could not be written" in err
    assert "repeat the command" in err
    finish(tmp_path / "full")
