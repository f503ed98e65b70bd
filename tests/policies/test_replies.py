"""Recorded replies: none is lost to a kill, none is taken for another."""

from hashlib import sha256
from pathlib import Path

import pytest

from rest_jax.core.errors import UserError
from rest_jax.policies.replies import Replies
from rest_jax.policies.wire import Answer

TEXT = Answer("Ein Wort – 東京\n\x00", "stop")
SAMPLED = Answer("ab", "length", (3, 4), (-0.10000000149011612, -2.5))
NO_ROOM = Answer("", "context")


def key(name: str) -> str:
    return sha256(name.encode()).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "replies" / "teacher.jsonl"
    replies = Replies(path)
    for name, answer in [("a", TEXT), ("b", SAMPLED), ("c", NO_ROOM)]:
        replies.put(key(name), answer)
    replies.close()
    return path


@pytest.mark.parametrize("writable", [True, False])
def test_what_was_recorded_comes_back_to_the_bit(file: Path, writable: bool):
    replies = Replies(file, writable=writable)
    assert [replies.get(key(name)) for name in "abcd"] == [TEXT, SAMPLED, NO_ROOM, None]
    assert len(replies) == 3
    replies.close()


def test_the_first_reply_to_a_question_stays(file: Path):
    replies = Replies(file)
    replies.put(key("a"), SAMPLED)
    replies.put(key("d"), SAMPLED)
    assert (replies.get(key("a")), replies.get(key("d"))) == (TEXT, SAMPLED)
    replies.close()
    again = Replies(file)
    assert (len(again), again.get(key("a")), again.get(key("d"))) == (4, TEXT, SAMPLED)
    again.close()


def test_a_kill_at_any_byte_costs_the_reply_that_was_being_written_at_most(file: Path):
    whole = file.read_bytes()
    ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole) + 1):
        file.write_bytes(whole[:cut])
        replies = Replies(file)
        kept = max(0, sum(end <= cut for end in ends) - 1)
        assert len(replies) == kept
        replies.put(key("e"), TEXT)
        replies.close()
        replies = Replies(file)
        assert (len(replies), replies.get(key("e"))) == (kept + 1, TEXT)
        replies.close()


def test_a_recording_that_is_replayed_is_left_as_it_is(file: Path):
    torn = file.read_bytes()[:-3]
    file.write_bytes(torn)
    replies = Replies(file, writable=False)
    assert len(replies) == 2
    replies.close()
    assert file.read_bytes() == torn


def test_what_is_no_recording_is_named(file: Path, tmp_path: Path):
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([lines[0], b'{"key": "00"}\n', *lines[2:]]))
    with pytest.raises(UserError, match=r"teacher.jsonl:2: damaged; delete the line"):
        Replies(file)
    file.write_bytes(b'{"replies_version": 9}\n')
    with pytest.raises(UserError, match="replies version 9, this program reads 1; use the version"):
        Replies(file)
    with pytest.raises(UserError, match=r"none\.jsonl: No such file or directory; name a file of recorded replies"):
        Replies(tmp_path / "none.jsonl", writable=False)
