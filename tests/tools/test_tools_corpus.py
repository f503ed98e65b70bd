"""Corpora: canonical order, digest, and every way in which a file can be malformed."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from rest_jax.core.errors import UserError
from rest_jax.tools.search.corpus import Passage, read_corpus

ROWS = [
    {"title": "Oslo", "text": "A city."},
    {"title": "Oslo", "text": "A ship."},
    {"title": "Émile", "text": "A book,\u2028on two lines."},
]


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def test_order_and_repetition_change_nothing(tmp_path: Path):
    corpus = read_corpus(write(tmp_path / "a.jsonl", ROWS))
    shuffled = [*ROWS, ROWS[0]]
    random.Random(0).shuffle(shuffled)
    assert read_corpus(write(tmp_path / "b.jsonl", shuffled)) == corpus
    assert corpus.passages[:2] == (Passage("Oslo", "A city."), Passage("Oslo", "A ship."))
    assert corpus.passages[2].text == "A book,\u2028on two lines."


def test_one_changed_character_changes_the_digest(tmp_path: Path):
    one = read_corpus(write(tmp_path / "a.jsonl", ROWS))
    other = read_corpus(write(tmp_path / "b.jsonl", [{"title": "Oslo", "text": "A city!"}, *ROWS[1:]]))
    assert one.digest != other.digest


def test_search_r1_rows_are_the_same_passages(tmp_path: Path):
    contents = [{"id": str(i), "contents": f'"{row["title"]}"\n{row["text"]}'} for i, row in enumerate(ROWS)]
    assert read_corpus(write(tmp_path / "a.jsonl", contents)) == read_corpus(write(tmp_path / "b.jsonl", ROWS))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"title": "A", "text": "b"', "delimiter"),
        (b'["A", "b"]', "not a JSON object"),
        (b'{"title": "A"}', '"text" is missing'),
        (b'{"title": 3, "text": "b"}', '"title" is not a string'),
        (b'{"title": " ", "text": "b"}', "the title is empty"),
        (b'{"title": "A", "text": "\\ud800"}', "surrogates"),
        (b'{"title": "A", "text": "\xff"}', "utf-8"),
        (b"[" * 100_000, "malformed"),
    ],
)
def test_malformed_line_is_named(tmp_path: Path, line: bytes, reason: str):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(b'{"title": "A", "text": "b"}\n\n' + line + b"\n")
    with pytest.raises(UserError, match=r"corpus\.jsonl:3: malformed passage") as error:
        read_corpus(path)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_and_empty_files(tmp_path: Path):
    with pytest.raises(UserError, match="No such file"):
        read_corpus(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="Is a directory"):
        read_corpus(tmp_path)
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(UserError, match="is empty"):
        read_corpus(tmp_path / "empty.jsonl")
