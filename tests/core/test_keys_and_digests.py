"""Names of randomness and of things: pinned, because a change would silently change every run."""

from __future__ import annotations

import pytest

from rest_jax.core.canonical import canonical_json, digest, digest_lines
from rest_jax.core.effects import Status, ToolErrorKind
from rest_jax.core.keys import KeyPath


def test_key_words_are_pinned() -> None:
    path = KeyPath(seed=7, generation=2, question_id="atlas-1", sample=3, trial=0, call=4, candidate=1)
    assert path.words() == (7, 2, 1182250761, 2813864470, 3, 0, 4, 1)


def test_every_part_of_a_path_changes_its_words() -> None:
    base = {"seed": 0, "generation": 0, "question_id": "q", "sample": 0, "trial": 0, "call": 0, "candidate": 0}
    words = {KeyPath(**base).words()}
    for name in base:
        words.add(KeyPath(**{**base, name: "r" if name == "question_id" else 1}).words())
    assert len(words) == len(base) + 1


def test_canonical_json_ignores_the_order_of_keys_and_refuses_nan() -> None:
    assert canonical_json({"b": 1, "a": [1.5, "ü"]}) == '{"a":[1.5,"ü"],"b":1}'
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


def test_digest_of_lines_depends_on_their_order() -> None:
    assert digest_lines([1, 2]) != digest_lines([2, 1])


def test_only_failures_that_are_not_the_agents_are_masked() -> None:
    assert {k for k in ToolErrorKind if not k.is_infrastructure} == {
        ToolErrorKind.BAD_ARGUMENTS,
        ToolErrorKind.TOOL_ERROR,
    }
    assert {s for s in Status if s.is_masked} == {Status.TOOL_FAILURE, Status.NONFINITE, Status.AGENT_ERROR}
