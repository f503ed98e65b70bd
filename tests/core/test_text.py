"""Hostile text on a terminal."""

from __future__ import annotations

import pytest

from rest_jax.core.text import printable, valid_unicode


@pytest.mark.parametrize("hostile", ["\x1b]52;c;aGk=\x07", "\x9b2J", "a\u202eb", "\x00", "\r"])
def test_nothing_steers_the_terminal(hostile: str) -> None:
    assert not set(printable(hostile)) & set("\x1b\x07\x9b\u202e\x00\r")


def test_ordinary_text_stays() -> None:
    assert printable("Ünïcode 漢字\n\ttab") == "Ünïcode 漢字\n\ttab"


def test_lone_surrogates_are_marked_and_pairs_are_characters() -> None:
    assert valid_unicode("a\ud800b\udc4d\ud83d\udc4d") == "a\ufffdb\ufffd👍"
    assert valid_unicode("plain 漢字 👍") == "plain 漢字 👍"
