"""A fit in a process of its own: killed at any moment it goes on in the same bits; without room it says so."""

import json
import os
import random
import signal
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


def stop_after(folder, count, number):
    """Send the process a signal as soon as it tells of its `count`th step, while that one's checkpoint is written.
    Returns the steps that it told of, and its last words."""
    with start(folder) as process:
        told = [process.stdout.readline() for _ in range(count)]
        process.send_signal(number)
        out, err = process.communicate()
    assert process.returncode == {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143}[number]
    return [json.loads(line)["step"] for line in (*told, *out.splitlines())], err


def test_killed_and_terminated_at_random_steps_it_ends_in_the_same_bits(tmp_path):
    """A kill costs at most the step that it met and the one before, whose checkpoint was being written."""
    steps, expected = finish(tmp_path / "whole")
    assert steps == list(range(1, 25))
    draw, least, last = random.Random(0), 0, 0
    for number in draw.sample([signal.SIGKILL, signal.SIGTERM] * 2, 4):
        steps, said = stop_after(tmp_path / "stopped", draw.randint(1, 3), number)
        assert least <= steps[0] - 1 <= last
        last = steps[-1]
        least = last - 2 if number == signal.SIGKILL else last
        assert (f"the state after step {last} of 24 of improve is kept" in said) == (number == signal.SIGTERM)
    steps, digest = finish(tmp_path / "stopped")
    assert digest == expected
    assert least <= steps[0] - 1 <= last


def test_without_room_for_a_checkpoint_it_says_so(tmp_path):
    process = start(tmp_path / "full", 4096)
    _, err = process.communicate()
    assert process.returncode == 2, err
    assert "the checkpoint after step 1 could not be written" in err
    assert "repeat the command" in err
    finish(tmp_path / "full")
