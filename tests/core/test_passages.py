"""What a search found, whatever a tool may have written there."""

from __future__ import annotations

from typing import Any

import pytest

from rest_jax.core.effects import passages


def test_passages_and_pages_have_titles_and_texts() -> None:
    found = [{"title": "Vell", "text": "A town."}, {"title": "Orr", "url": "https://orr.example", "snippet": "A name."}]
    assert passages({"results": found}) == [("Vell", "A town."), ("Orr", "A name.")]


@pytest.mark.parametrize("data", [{}, {"results": None}, {"results": "Vell"}, {"results": {"title": "Vell"}}])
def test_without_a_list_there_are_none(data: dict[str, Any]) -> None:
    assert passages(data) is None


def test_what_has_another_shape_is_left_out_or_empty() -> None:
    results = ["a", None, 3, ["title"], {}, {"title": ["x"], "text": {"y": 1}}, {"title": "Vell"}]
    assert passages({"results": results}) == [("", ""), ("", ""), ("Vell", "")]
