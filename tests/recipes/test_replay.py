"""A run that was recorded is made again from its cassette: without the corpus, without tools, without a network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rest_jax
from rest_jax.cli.main import main
from rest_jax.core.errors import UserError
from rest_jax.recipes.digest import run_digest

ROOT = Path(__file__).parents[2]

BLOCKED = """\
import sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.bind", "socket.sendto") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    if host not in ("127.0.0.1", "localhost", "", None):
        raise PermissionError(f"no network: {event} {host}")

sys.addaudithook(refuse)
"""
"""A `sitecustomize` of the run and of the adapter that it starts: nothing but loopback is there."""

WITHOUT_CORPUS = """\
import socket, sys
from pathlib import Path
try:
    socket.create_connection(("192.0.2.1", 80), timeout=1)
except PermissionError as error:
    assert "no network" in str(error)
else:
    raise AssertionError("the network is there")
import rest_jax
from rest_jax.recipes import run as recipe
from rest_jax.tasks.registry import task as open_task

def without_corpus(settings, folder):
    task = open_task(settings, folder)
    task.corpus().unlink()
    return task

recipe.open_task = without_corpus
rest_jax.run(sys.argv[1], run_dir=Path(sys.argv[2]), offline=True)
"""


def config(tiny_config: Path, folder: Path, name: str, tools: str) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(f"extends: {tiny_config}\ntools: {tools}\n")
    return path


@pytest.fixture(scope="module")
def recorded(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was recorded; the cassette stands beside it."""
    folder = tmp_path_factory.mktemp("recorded")
    rest_jax.run(
        config(tiny_config, folder, "record", f"{{mode: record, cassette: {folder / 'cassette'}}}"),
        run_dir=folder / "run",
    )
    return folder / "run"


def test_recording_changes_nothing(recorded: Path, finished_run: Path):
    assert run_digest(recorded) == run_digest(finished_run)
    manifest = json.loads((recorded.parent / "cassette" / "manifest.json").read_text())
    assert [tool["function"]["name"] for tool in manifest["tools"]] == ["search", "lookup"]
    assert manifest["calls"] > 10
    assert not (recorded.parent / "cassette" / "unfinished.jsonl").exists()


def test_a_replay_without_corpus_and_network_has_the_same_digest(recorded: Path, tiny_config: Path, tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text(BLOCKED)
    cassette = shutil.copytree(recorded.parent / "cassette", tmp_path / "cassette")
    again = config(tiny_config, tmp_path, "replay", f"{{mode: replay, cassette: {cassette}}}")
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_CORPUS, str(again), str(tmp_path / "run")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert run_digest(tmp_path / "run") == run_digest(recorded)
    assert "corpus absent" in " ".join(json.loads((tmp_path / "run" / "summary.json").read_text())["notes"])


def test_a_replay_of_what_was_not_recorded_stops_and_says_what_is_missing(
    recorded: Path, tiny_config: Path, tmp_path: Path
):
    cassette = recorded.parent / "cassette"
    more = config(
        tiny_config, tmp_path, "more", f"{{mode: replay, cassette: {cassette}}}\npilot: {{demonstrations: 6}}"
    )
    with pytest.raises(
        UserError, match=r"cannot go on: .*cassette holds no answer to (search|lookup) \{.*record it again"
    ):
        rest_jax.run(more, run_dir=tmp_path / "run")
    assert "replay miss: " in (tmp_path / "run" / "tools.log").read_text()


def test_a_replay_of_another_search_is_refused(recorded: Path, tiny_config: Path, tmp_path: Path):
    cassette = recorded.parent / "cassette"
    other = config(tiny_config, tmp_path, "other", f"{{mode: replay, cassette: {cassette}, results: 3}}")
    with pytest.raises(UserError, match="cassette: recorded with results 1 instead of 3; say so under tools"):
        rest_jax.run(other, run_dir=tmp_path / "run")


def test_a_dry_run_checks_the_cassette(tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    tools = f"{{mode: replay, cassette: {tmp_path / 'none'}, config: {tmp_path / 'none.yaml'}}}"
    path = config(tiny_config, tmp_path, "dry", tools)
    assert main(["run", str(path), "--run-dir", str(tmp_path / "run"), "--dry-run"]) == 2
    assert "none: not a finished cassette (no manifest.json); check the path" in capsys.readouterr().err
