"""Files whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rest_jax.core.files import write_json, written_whole


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    with written_whole(path) as part:
        part.write_text("one")
        assert not path.exists()
    with written_whole(path) as part:
        part.write_text("two")
        assert path.read_text() == "one"
    assert path.read_text() == "two"


def test_a_write_that_fails_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    with pytest.raises(UnicodeEncodeError):
        write_json(tmp_path / "x.json", {"a": "\ud800"})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["x.json"]


def test_two_writers_of_one_path_do_not_meet(tmp_path: Path) -> None:
    with written_whole(tmp_path / "x") as one, written_whole(tmp_path / "x") as other:
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "x").read_text() == "one"
    assert os.listdir(tmp_path) == ["x"]


def test_a_file_has_the_permissions_that_the_user_wants(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_json(tmp_path / "x.json", {})
    assert (tmp_path / "x.json").stat().st_mode == (tmp_path / "plain").stat().st_mode
