"""Published datasets: read from a folder or downloaded by checksum, with TFDS's own downloader from a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rest_jax.core.canonical import digest_file
from rest_jax.core.errors import UserError
from rest_jax.core.trajectory import Question
from rest_jax.tasks.builder import read_rows
from rest_jax.tasks.files import read_jsonl, write_jsonl
from rest_jax.tasks.published import Dataset, File, Row, halves, read_json
from rest_jax.tasks.splits import Split

FIELDS = {"id": str, "question": str, "answers": list}
ROWS = [{"id": f"q{n}", "question": f"Who is {n}?", "answers": ["Ada", f"Orr {n}"]} for n in (2, 0, 1)]
GIVEN = Dataset(
    "toy", "https://example.org", {"test": File("toy.jsonl")}, FIELDS, lambda path: read_jsonl(path, FIELDS, "question")
)


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server's address and its folder, which holds toy.jsonl."""
    folder = tmp_path / "toy"
    write_jsonl(folder / "toy.jsonl", ROWS)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/toy.jsonl", folder
    server.shutdown()
    thread.join()
    server.server_close()


def published(site: tuple[str, Path]) -> Dataset:
    url, folder = site
    path = folder / "toy.jsonl"
    return replace(GIVEN, files={"test": File(path.name, url, path.stat().st_size, digest_file(path))})


def test_a_download_is_read_once_and_kept(
    site: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = published(site)
    rows = read_rows(dataset, None, tmp_path / "made")
    assert rows == {"test": sorted(ROWS, key=lambda row: row["id"])}
    (site[1] / "toy.jsonl").unlink()
    assert read_rows(dataset, None, tmp_path / "made") == rows
    assert capsys.readouterr().out == "", "stdout belongs to the caller"


def test_a_download_with_another_checksum_is_refused(site: tuple[str, Path], tmp_path: Path) -> None:
    dataset = published(site)
    write_jsonl(site[1] / "toy.jsonl", ROWS[:2])
    with pytest.raises(UserError, match=r"dataset 'toy': it cannot be prepared .*wrong checksum") as caught:
        read_rows(dataset, None, tmp_path / "made")
    assert "\n" not in str(caught.value)
    write_jsonl(site[1] / "toy.jsonl", ROWS)
    assert len(read_rows(dataset, None, tmp_path / "made")["test"]) == 3, "the right file, another time"


def test_a_download_that_is_gone_says_what_to_give(site: tuple[str, Path], tmp_path: Path) -> None:
    dataset = published(site)
    (site[1] / "toy.jsonl").unlink()
    with pytest.raises(
        UserError, match=r"'toy': it cannot be prepared .*404.*give --data .* toy/toy\.jsonl.*http://127"
    ):
        read_rows(dataset, None, tmp_path / "made")


def test_a_folder_holds_the_published_file_or_is_refused(site: tuple[str, Path], tmp_path: Path) -> None:
    dataset, folder = published(site), site[1]
    assert len(read_rows(dataset, tmp_path, tmp_path / "made")["test"]) == 3
    write_jsonl(folder / "toy.jsonl", ROWS[:2])
    with pytest.raises(UserError, match=r"toy\.jsonl: not the published file \(sha256 .* instead of "):
        read_rows(dataset, tmp_path, tmp_path / "made")
    with pytest.raises(
        UserError, match=r"no file .*nowhere/toy/toy\.jsonl; give --data .* or leave it out to download http"
    ):
        read_rows(dataset, tmp_path / "nowhere", tmp_path / "made")


def test_what_has_no_checksum_is_given_and_may_be_any_sample(site: tuple[str, Path], tmp_path: Path) -> None:
    assert len(read_rows(GIVEN, tmp_path, tmp_path / "made")["test"]) == 3
    write_jsonl(site[1] / "toy.jsonl", ROWS[:1])
    assert read_rows(GIVEN, tmp_path, tmp_path / "made")["test"] == ROWS[:1]
    with pytest.raises(UserError, match=r"dataset 'toy': toy\.jsonl has to be given; give --data .*example\.org"):
        read_rows(GIVEN, None, tmp_path / "made")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", r"malformed \(Expecting"),
        ('{"id": "a"}', r"malformed \(not a list\)"),
        ("[3]", r"malformed question 0 \(no object\)"),
        ('[{"id": "a", "answer": true}, {"id": "b"}]', r"malformed question 1 \(answer\); it should be \[{id, answer}"),
        ('[{"id": "a", "answer": "yes"}]', r"malformed question 0 \(answer\)"),
        ("[" * 100_000, r"malformed \("),
    ],
)
def test_a_json_list_that_is_none_is_named(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=told):
        list(read_json(tmp_path / "x.json", {"id": str, "answer": bool}, "question"))


def test_another_version_reads_the_same_file_anew(site: tuple[str, Path], tmp_path: Path) -> None:
    def louder(path: Path) -> Iterator[Row]:
        return ({**row, "question": row["question"].upper()} for row in read_jsonl(path, FIELDS, "question"))

    before = read_rows(GIVEN, tmp_path, tmp_path / "made")
    after = read_rows(replace(GIVEN, parse=louder, version="2"), tmp_path, tmp_path / "made")
    assert [row["question"] for row in after["test"]] == [row["question"].upper() for row in before["test"]]
    assert read_rows(GIVEN, tmp_path, tmp_path / "made") == before


def test_halves_are_disjoint_and_do_not_part_equal_questions() -> None:
    questions = [Question(f"q{n}", f"Who is {n // 2}?", "Ada") for n in range(50)]
    split = halves(questions)
    assert split == halves(questions[::-1])
    select, report = ({q.text for q in split[name]} for name in (Split.SELECT, Split.REPORT))
    assert select.isdisjoint(report)
    assert sum(map(len, split.values())) == 50
    assert len(split[Split.SELECT]) in (25, 26)
    assert halves([Question("a", "Who?", "x"), Question("b", "who", "y")])[Split.REPORT] == ()


def test_ids_that_come_twice_are_no_two_questions(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "toy" / "toy.jsonl", [ROWS[0], ROWS[0]])
    with pytest.raises(UserError, match=r"toy\.jsonl: the id 'q2' comes twice"):
        read_rows(GIVEN, tmp_path, tmp_path / "made")
