"""`rest-jax tools call` and `index`: what a model would see, what decides it, and failures in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rest_jax.cli.main import main
from rest_jax.config.settings import ToolsSettings
from rest_jax.tools.process import adapter
from rest_jax.tools.redact import TOKEN_VARIABLE
from rest_jax.tools.search.corpus import read_corpus

ROWS = [
    {"title": "Oslo", "text": "The capital of Norway."},
    {"title": "Bergen", "text": "A city in Norway."},
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REST_JAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def config(tmp_path: Path, corpus: Path) -> Path:
    path = tmp_path / "tools.yaml"
    path.write_text(f"tools: [{{kind: corpus, path: {corpus}, results: 2}}]\n")
    return path


def test_a_tool_is_called_on_a_corpus_a_file_of_tools_or_an_adapter(
    corpus: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = "Oslo: The capital of Norway.\n", "Bergen: A city in Norway.\nOslo: The capital of Norway.\n"
    with adapter(ToolsSettings(), corpus, log=tmp_path / "tools.log") as (url, token):
        monkeypatch.setenv(TOKEN_VARIABLE, token or "")
        for query, source, shown in (
            ("capital", ["--corpus", str(corpus)], one),
            ("norway", ["--corpus", str(corpus), "--results", "2"], two),
            ("norway", ["--config", str(config)], two),
            ("capital", ["--url", url], one),
        ):
            assert main(["tools", "call", "search", json.dumps({"query": query}), *source]) == 0
            assert capsys.readouterr().out == shown


def test_the_whole_reply(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tools", "call", "search", '{"query": "capital"}', "--corpus", str(corpus), "--json"]) == 0
    reply = json.loads(capsys.readouterr().out)
    assert set(reply) == {"content", "data", "fault", "tool_version"}
    assert reply["data"]["results"][0]["title"] == "Oslo"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["serach"], 1, "serach: bad_arguments: there is no tool 'serach', only search, lookup"),
        (["search"], 1, "search: bad_arguments: 'query' is a required property"),
        (["search", "{}", "--k1", "-1"], 2, "error: index.k1: expected at least 0, got -1.0"),
        (["search", "[1]"], 2, "error: '[1]' is no JSON object; give arguments such as '{\"query\": \"…\"}'"),
    ],
)
def test_what_fails_is_one_line(
    corpus: Path, words: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tools", "call", *words, "--corpus", str(corpus)]) == code
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", f"rest-jax: {says}\n")


def test_options_of_the_corpus_do_not_go_with_a_file_of_tools(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tools", "serve", "--config", str(config), "--title-weight", "3"]) == 2
    assert capsys.readouterr().err == (
        f"rest-jax: error: --title-weight goes with --corpus alone; write it into {config}\n"
    )


def test_an_index_says_what_decides_its_ranks(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tools", "index", "--corpus", str(corpus), "--k1", "0.9"]) == 0
    said = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if " " in line.strip())
    assert said["corpus"] == read_corpus(corpus).digest
    assert (said["passages"], said["k1"], said["b"], said["stemmer"]) == ("2", "0.9", "0.75", "english")
    assert len(said["index"]) == 64
