"""The command line as a user meets it: help at once, errors in one line, the right exit codes."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rest_jax import __version__
from rest_jax.cli import main as cli
from rest_jax.config.loader import load
from rest_jax.config.settings import RestConfig

ROOT = Path(__file__).parents[2]


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line that a refused command prints."""
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.strip()


@pytest.mark.parametrize(
    "words",
    [
        *(["--help"], ["--version"], ["config", "--help"], ["config", "schema"]),
        *(["verify", "--help"], ["what-if", "--help"], ["data", "export", "--help"], ["tables", "--help"]),
    ],
)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = f"""
import sys
from rest_jax.cli.main import main
try:
    main({words!r})
except SystemExit as end:
    assert end.code == 0
heavy = {{"jax", "flax", "numpy", "transformers", "rich", "aiohttp"}} & set(sys.modules)
sys.exit(f"imported {{sorted(heavy)}}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    for command in cli.COMMANDS:
        assert f"\n    {command.name}" in out
        assert command.about in " ".join(out.split())


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: command.name)
def test_every_command_answers_help(command: cli.Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([command.name, "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: rest-jax {command.name}")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"rest_jax {__version__}\n"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["confg"], "there is no command 'confg'; did you mean 'config'?"),
        (["zzz"], "there is no command 'zzz'; see rest-jax --help"),
        (["zz\x1b]0;title\x07"], "there is no command 'zz\ufffd]0;title\ufffd'; see rest-jax --help"),
        ([], "the following arguments are required: COMMAND; see rest-jax --help"),
        (["config", "show"], "the following arguments are required: CONFIG; see rest-jax config show --help"),
        (["config", "show", "a", "--st", "b=c"], "unrecognized arguments: --st b=c; see rest-jax --help"),
        (["config", "show", "none.yaml"], "none.yaml: there is no such file; check the path"),
        (["tools"], "the following arguments are required: ACTION; see rest-jax tools --help"),
        (["tools", "serve"], "nothing to serve; give --corpus FILE.jsonl or --config FILE.yaml"),
        (["tools", "index"], "the following arguments are required: --corpus; see rest-jax tools index --help"),
        (["tools", "call", "search", "{"], "'{' is no JSON object; give arguments such as '{\"query\": \"…\"}'"),
        (["launch", "render", "slurm", "--set", "gpu=1"], "--set gpu=1: unknown key 'gpu'; did you mean 'gpus'?"),
        (["status", "none"], "none: not a run folder (no run.json); give the folder that `rest-jax run` wrote"),
    ],
)
def test_errors_are_one_line(words: list[str], line: str, capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert told(capsys, *words) == f"rest-jax: error: {line}"


def test_models_that_are_unknown_or_not_here(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("REST_JAX_CACHE", str(tmp_path))
    assert told(capsys, "models", "get", "nope").startswith("rest-jax: error: no model is called 'nope': choose ")
    line = told(capsys, "models", "get", "smollm2-135m-instruct", "--offline")
    assert line.endswith("fetch it once while online with `rest-jax models get smollm2-135m-instruct`")


def test_models_get_prints_the_folder_last(smollm2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "get", "smollm2-135m-instruct-q4_1", "--offline"]) == 0
    folder = Path(capsys.readouterr().out.splitlines()[-1])
    assert folder == smollm2
    assert {"config.json", "tokenizer.json"} <= {entry.name for entry in folder.iterdir()}


def test_config_show_prints_what_loads_again(capsys, tmp_path: Path) -> None:
    source = tmp_path / "a.yaml"
    source.write_text("name: a\n", encoding="utf-8")
    assert cli.main(["config", "show", str(source), "--set", "engine.rows=3"]) == 0
    shown = capsys.readouterr().out
    (tmp_path / "b.yaml").write_text(shown, encoding="utf-8")
    again = load(tmp_path / "b.yaml", RestConfig)
    assert again == load(source, RestConfig, ["engine.rows=3"])
    assert shown.splitlines()[0] == f"# digest: {again.digest}"


def test_config_validate_stops_at_what_is_wrong(capsys, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("name: a\n", encoding="utf-8")
    bad.write_text("nmae: a\n", encoding="utf-8")
    assert cli.main(["config", "validate", str(good), str(bad)]) == 2
    out, err = capsys.readouterr()
    assert out == f"{good}: valid, digest {load(good, RestConfig).digest}\n"
    assert err == f"rest-jax: error: {bad}:1:1: unknown key 'nmae'; did you mean 'name'?\n"


@pytest.mark.parametrize(("world", "corpus"), [([], "atlas-7.jsonl"), (["--task-seed", "11"], "atlas-11.jsonl")])
def test_tasks_check_counts_gold_answers(capsys: pytest.CaptureFixture[str], world: list[str], corpus: str) -> None:
    assert cli.main(["tasks", "check", "atlas", *world]) == 0
    out = capsys.readouterr().out
    right, questions = out.split()[0].split("/")
    assert int(right) == int(questions) > 0
    assert f": {corpus}, " in out.splitlines()[-1]


def test_doctor_as_json_names_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    sections = [finding["section"] for finding in found]
    expected = ["machine", "processes", "devices", "packages", "models", "agents", "sandbox", "extras"]
    assert list(dict.fromkeys(sections)) == expected
    assert sections.count("devices") == 8
    agents = {finding["name"]: finding["value"] for finding in found if finding["section"] == "agents"}
    assert (agents["search_agent"], agents["cot_sc"]) == ("calls search", "calls no tool")
    assert all(finding["value"] and set(finding) == {"section", "name", "value", "mend"} for finding in found)


def test_doctor_as_table_holds_the_same(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "to mend" in out
    assert "cpu:7" in out


def test_a_closed_pipe_is_quiet() -> None:
    script = f"'{sys.executable}' -m rest_jax.cli.main config schema | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode in (0, cli.BROKEN_PIPE)
    assert done.stderr == ""


GOES_ON = "; the same command goes on where this one stopped"


@pytest.mark.parametrize(("number", "word", "code"), [("INT", "interrupted", 130), ("TERM", "terminated", 143)])
@pytest.mark.parametrize(
    ("command", "goes_on"),
    [
        (["run"], GOES_ON),
        (["tables"], GOES_ON),
        (["eval", "--model", "x", "--json", "out.json", "--task", "atlas", "--questions"], GOES_ON),
        (["config", "show"], ""),
    ],
)
def test_who_is_stopped_promises_to_go_on_where_that_is_true(
    tmp_path: Path, command: list[str], goes_on: str, number: str, word: str, code: int
) -> None:
    fifo = tmp_path / "never.yaml"  # opening it blocks until someone writes: the command is surely in the middle
    os.mkfifo(fifo)
    # A shell's background jobs, and so their children, ignore SIGINT; env gives it back.
    heeding = ["env", f"--default-signal={number}", sys.executable]
    arguments = [*heeding, "-m", "rest_jax.cli.main", *command, str(fifo)]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    with fifo.open("w"):  # returns once the command has opened it
        process.send_signal(signal.Signals[f"SIG{number}"])
        _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert err == f"rest-jax: {word}{goes_on}\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device that is always full")
def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "rest_jax.cli.main", "config", "schema"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith("rest-jax: error: no space left for ")


def test_other_errors_of_the_system_are_not_hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Odd:
        @staticmethod
        def add_arguments(parser) -> None: ...

        @staticmethod
        def execute(options) -> int:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(cli, "import_module", lambda name: Odd)
    with pytest.raises(OSError, match="Input/output error"):
        cli.main(["doctor"])
