"""Where a run stands: finished, in the middle of it, and after its death; with its own adapter or another's."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from rest_jax.cli.main import main
from rest_jax.config.settings import ToolsSettings
from rest_jax.core.files import part_of, write_json
from rest_jax.recipes.stages import CLOCK, JOURNAL, SUMMARY
from rest_jax.recipes.status import status
from rest_jax.rollout.journal import Journal
from rest_jax.tools import process, watch
from rest_jax.tools.client import ToolClient
from rest_jax.tools.process import adapter
from rest_jax.tools.redact import TOKEN_VARIABLE
from rest_jax.tools.watch import Record
from tests.waiting import wait_until


def test_a_finished_run_and_its_adapter(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(finished_run)]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"{finished_run}: finished, \d+ stages done in \d+ s", first)
    assert any(re.fullmatch(r"  seed-0/gen-1/grow: done, \d+ s", line) for line in lines)
    (tools,) = [line for line in lines if line.startswith("tools: ")]
    assert re.search(r"does not answer; as of 20\S+ \S+; 0 restarts", tools)
    (search,) = [line for line in lines if line.startswith("  search: ")]
    told = r"  search: (\d+) calls, (\d+) ok, 0% from the cache, p50 \S+ ms, p95 \S+ ms"
    match = re.fullmatch(told, search)
    assert match is not None, search
    assert match[1] == match[2] != "0"


def test_a_run_in_the_middle_of_a_stage(finished_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished_run, tmp_path / "run")
    (run / SUMMARY).unlink()
    stage = run / "stages" / "seed-0" / "gen-1" / "grow"
    shutil.rmtree(stage)
    with Journal(stage / JOURNAL) as journal:
        for job in ("a", "b", "b"):
            journal.add_begun(job)
    write_json(stage / CLOCK, {})
    first, *lines = status(run)
    assert ": not finished, " in first
    assert "  seed-0/gen-1/grow: 0 trajectories finished, 2 begun" in lines
    with Journal(part_of(stage / JOURNAL, 1)) as journal:  # another process's
        for job in ("b", "c"):
            journal.add_begun(job)
    assert "  seed-0/gen-1/grow: 0 trajectories finished, 3 begun" in status(run)


def test_an_adapter_that_answers(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LOOK_S", 0.05)
    run = shutil.copytree(finished_run, tmp_path / "run")
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(json.dumps({"title": "Oslo", "text": "A city."}) + "\n")
    with (
        adapter(ToolsSettings(), corpus, log=run / "tools.log") as (url, token),
        ToolClient(url, ToolsSettings(), token) as client,
    ):
        for id, arguments in enumerate(({"query": "oslo"}, {})):
            client.submit(id, "search", arguments, "e")
        while client.in_flight:
            client.poll(None)
        told = "  search: 2 calls, 1 ok, 1 bad_arguments, 0% from the cache, p50 "

        def settled() -> bool:
            return any(line.startswith(told) and line.endswith(", 0 in flight") for line in status(run))

        wait_until(settled, told)
        assert f"tools: the adapter at {url} answers; 0 restarts" in status(run)
        monkeypatch.setenv(TOKEN_VARIABLE, token or "")
        others = shutil.copytree(finished_run, tmp_path / "others")
        watch.write(others, Record(url))
        assert any(line.startswith(told) for line in status(others))
        # Another process at the same port is not this run's adapter.
        watch.write(others, Record(url, pid=1))
        assert any("does not answer" in line for line in status(others))
    (line,) = [line for line in status(run) if line.startswith("tools: ")]
    assert "does not answer; as of" in line


def test_a_folder_without_an_adapter_yet(finished_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished_run, tmp_path / "run")
    (run / watch.RECORD).unlink()
    assert status(run)[-1] == "tools: no adapter was started yet"


def test_a_record_that_is_for_another_users_eyes(finished_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished_run, tmp_path / "run")
    noted = run / watch.RECORD
    noted.unlink()
    noted.mkdir()  # root, who may run this, reads every file
    assert status(run)[-1] == f"tools: {noted} cannot be read (Is a directory); ask as the user whose run it is"
