"""What a user can get wrong: one line on stderr with the mend, exit code 2, no traceback, nothing lost."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest

from rest_jax.cli.main import main
from rest_jax.models import catalog

QUESTION = '{"id": "1", "question": "Who?", "answer": "Ada"}\n'
PASSAGE = '{"title": "Ada", "text": "Ada lives here."}\n'


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """The one line that a refused command says."""
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("rest-jax: error: ")
    assert said.count("\n") == 1
    return said


def evaluation(folder: Path, **changed: str) -> list[str]:
    """An eval command on own files, with options changed."""
    (folder / "q.jsonl").write_text(QUESTION)
    (folder / "c.jsonl").write_text(PASSAGE)
    options = {
        "model": "smollm2-135m-instruct-q4_1",
        "questions": str(folder / "q.jsonl"),
        "corpus": str(folder / "c.jsonl"),
        "json": str(folder / "out.json"),
    } | changed
    return ["eval", *(part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value))]


def test_a_model_that_is_neither_name_nor_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, evaluation(tmp_path, model="smollm3"))
    assert "smollm3 is no model's name (smollm2-135m-instruct-q4_1" in said
    assert not (tmp_path / "out.json").exists()


def test_weights_that_are_cut_short(tmp_path: Path, smollm2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in smollm2.iterdir():
        if file.suffix == ".json":
            (broken / file.name).write_bytes(file.read_bytes())
    with (smollm2 / "model.safetensors").open("rb") as whole:
        (broken / "model.safetensors").write_bytes(whole.read(1 << 20))
    assert "model.safetensors" in refused(capsys, evaluation(tmp_path, model=str(broken)))


def test_what_the_adapter_has_against_a_corpus_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text(PASSAGE + '{"title": "Ada"}\n')
    model = "smollm2-135m-instruct-q4_1"
    out = tmp_path / "out.json"
    asked = ["eval", "--model", model, "--task", "atlas", "--corpus", str(bad), "--json", str(out)]
    assert f'{bad}:2: malformed passage ("text" is missing)' in refused(capsys, asked)
    assert f"cannot read {tmp_path / 'none.jsonl'}: No such file" in refused(
        capsys, ["ask", model, "Who?", "--corpus", str(tmp_path / "none.jsonl")]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["bad.jsonl"]


def test_a_model_has_no_row_to_compare_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, ["ask", str(tmp_path), "Who?", "--compare", "pilot"])
    assert f"{tmp_path} is no run, so it has no row 'pilot'; name a run's folder" in said


def test_a_corpus_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere.jsonl" in refused(capsys, evaluation(tmp_path, corpus=str(tmp_path / "nowhere.jsonl")))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("q.jsonl", '{"id": "2"}\n'),
        ("q.jsonl", '{"id": "2", "question": "\\ud800", "answer": "x"}\n'),
        ("c.jsonl", "{broken\n"),
        ("c.jsonl", '{"title": "A", "text": "\\ud800"}\n'),
    ],
)
def test_a_malformed_line_is_named_by_its_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, line: str
) -> None:
    arguments = evaluation(tmp_path)
    with (tmp_path / name).open("a") as file:
        file.write(line)
    assert f"{name}:2" in refused(capsys, arguments)


def test_an_adapter_that_does_not_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    said = refused(capsys, evaluation(tmp_path, tools_url=url))
    assert f"no tool adapter answers at {url}" in said
    assert "rest-jax tools serve" in said


def test_offline_without_the_model_says_how_to_fetch_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REST_JAX_CACHE", str(tmp_path / "empty"))
    said = refused(capsys, ["models", "get", "smollm2-135m-instruct-q4_1", "--offline"])
    assert "fetch it once while online with `rest-jax models get smollm2-135m-instruct-q4_1`" in said
    assert not (tmp_path / "empty" / "models" / "smollm2-135m-instruct-q4_1").exists()
    assert catalog.NAMES


def test_nothing_to_ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["eval", "--model", "x", "--json", str(tmp_path / "out.json")]
    assert "give --task NAME, or --questions and --corpus" in refused(capsys, arguments)


def test_a_run_folder_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "not a run folder" in refused(capsys, ["run-digest", str(tmp_path)])


@pytest.mark.parametrize("row", [{"promt": "Say"}, {"prompt": "\ud800"}])
def test_a_prompt_that_is_malformed(tmp_path: Path, capsys: pytest.CaptureFixture[str], row: dict) -> None:
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": "Say"}) + "\n" + json.dumps(row) + "\n")
    arguments = ["generate", "--model", "smollm2-135m-instruct-q4_1", "--prompts", str(tmp_path / "p.jsonl")]
    said = refused(capsys, [*arguments, "--max-tokens", "3", "--json", str(tmp_path / "out.jsonl")])
    assert "p.jsonl:2" in said


def test_a_question_in_another_encoding(capsys: pytest.CaptureFixture[str]) -> None:
    """Python reads a command line's bytes that are no UTF-8 as lone surrogates."""
    assert "type it in UTF-8" in refused(
        capsys, ["ask", "smollm2-135m-instruct-q4_1", b"Wo liegt K\xf6ln?".decode(errors="surrogateescape")]
    )


def test_a_result_that_could_not_be_written_is_refused_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, evaluation(tmp_path, json=str(tmp_path / "missing" / "out.json")))
    assert "make the folder" in said


@pytest.mark.parametrize(
    ("command", "option", "value", "told"),
    [
        ("eval", "--limit", "-1", "expected at least 1, got -1"),
        ("eval", "--limit", "0", "expected at least 1, got 0"),
        ("eval", "--samples", "0", "expected at least 1, got 0"),
        ("eval", "--shots", "-1", "expected at least 0, got -1"),
        ("eval", "--temperature", "-0.5", "expected at least 0, got -0.5"),
        ("eval", "--temperature", "nan", "expected at least 0, got nan"),
        ("eval", "--temperature", "inf", "expected a finite number, got inf"),
        ("eval", "--seed", "-1", "expected at least 0, got -1"),
        ("generate", "--max-tokens", "0", "expected at least 1, got 0"),
        ("generate", "--max-tokens", "many", "expected a whole number, got 'many'"),
        ("generate", "--temperature", "-1", "expected at least 0, got -1.0"),
        ("generate", "--top-k", "-1", "expected at least 0, got -1"),
        ("generate", "--top-p", "0", "expected more than 0, got 0.0"),
        ("generate", "--min-p", "2", "expected at most 1, got 2.0"),
        ("run", "--seed", "4294967296", "expected at most 4294967295, got 4294967296"),
        ("preflight", "--questions", "0", "expected at least 1, got 0"),
        ("preflight", "--samples", "0", "expected at least 1, got 0"),
    ],
)
def test_numbers_that_will_not_do(
    capsys: pytest.CaptureFixture[str], command: str, option: str, value: str, told: str
) -> None:
    line = f"rest-jax: error: argument {option}: {told}; see rest-jax {command} --help\n"
    assert refused(capsys, [command, option, value]) == line


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc, a folder in which not even root may make files")
@pytest.mark.parametrize("command", ["eval", "generate"])
def test_a_folder_that_takes_no_files(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    needed = {"eval": ["--task", "atlas"], "generate": ["--prompts", "p.jsonl", "--max-tokens", "1"]}[command]
    said = refused(capsys, [command, "--model", "x", *needed, "--json", "/proc/out.json"])
    assert re.search(r"/proc/out.json: cannot be written \(.+\); name another file", said)


def test_a_run_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "c.yaml").write_text("name: x\n")
    said = refused(capsys, ["run", str(tmp_path / "c.yaml"), "--run-dir", str(tmp_path / "file" / "run")])
    assert "Not a directory; name a place that you may write to" in said
    assert str(tmp_path / "file") in said


def test_a_cache_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("REST_JAX_CACHE", str(tmp_path / "file"))
    said = refused(capsys, ["tasks", "check", "atlas"])
    assert str(tmp_path / "file") in said
    assert "name a place that you may write to" in said
