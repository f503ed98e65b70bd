"""Whatever a server answers is read, or refused as garbage: it passes for no reply, and never breaks the reader."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rest_jax.core.effects import Sampling
from rest_jax.core.keys import KeyPath
from rest_jax.core.policy import Request
from rest_jax.policies.wire import Answer, answers_of, echoed, models_of, prompt_ids_of, seed_of, usage_of

KEY = KeyPath(1, 2, "q", 3, 4, 5, 6)
REQUEST = Request(0, 0, (1, 2), KEY, 4, ("\n",), Sampling())
GARBAGE = (LookupError, TypeError, ValueError, AttributeError, OverflowError)
"""What a request is sent again for."""

SOUND = {
    "index": 0,
    "text": "abc",
    "finish_reason": "stop",
    "token_ids": [1, 2],
    "logprobs": {"token_logprobs": [-1, 0]},
}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["stop", "length"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*SOUND, "message", "content"]), inner),
    max_leaves=8,
)


def one(**changes: Any) -> dict[str, Any]:
    return {"choices": [{**SOUND, **changes}]}


@given(reply=ANYTHING | st.builds(lambda key, value: one(**{key: value}), st.sampled_from(sorted(SOUND)), ANYTHING))
@pytest.mark.parametrize("ids", [True, False])
def test_a_response_is_answers_or_garbage(reply: Any, ids: bool):
    try:
        answers = answers_of(reply, REQUEST, ids=ids)
    except GARBAGE:
        return
    assert answers
    for answer in answers:
        assert answer.finish in ("stop", "length")
        answer.text.encode()
        if ids:
            assert answer.ids is not None
            assert answer.logprobs is not None
            assert all(type(token) is int and token >= 0 for token in answer.ids)
            assert all(isinstance(logprob, float) and logprob <= 0 for logprob in answer.logprobs)
            json.dumps([answer.ids, answer.logprobs], allow_nan=False)


@given(reply=ANYTHING)
@pytest.mark.parametrize("read", [models_of, prompt_ids_of, usage_of, lambda reply: echoed(reply, 3)])
def test_the_rest_is_read_or_garbage(reply: Any, read: Any):
    try:
        read(reply)
    except GARBAGE:
        return


def test_choices_are_taken_in_their_order():
    reply = {"choices": [{**SOUND, "index": 1, "text": "b"}, {**SOUND, "index": 0, "text": "a"}]}
    assert answers_of(reply, REQUEST, ids=False) == [Answer("a", "stop"), Answer("b", "stop")]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"finish_reason": "content_filter"}, "ended as 'content_filter'"),
        ({"text": "x" * 1025}, "no text of its length"),
        ({"token_ids": [1]}, "do not go with"),
        ({"token_ids": [1] * 5, "logprobs": {"token_logprobs": [-1] * 5}}, "5 tokens where 4 were asked for"),
        ({"logprobs": {"token_logprobs": [0.1, -1]}}, "log-probs that are none"),
        ({"logprobs": {"token_logprobs": [1e300, -1]}}, "log-probs that are none"),
        ({"logprobs": {"token_logprobs": [[-1], [-1]]}}, "log-probs that are none"),
    ],
)
def test_garbage_is_named(changes: dict[str, Any], why: str):
    with pytest.raises(ValueError, match=why):
        answers_of(one(**changes), REQUEST, ids=True)


def test_lone_surrogates_are_replaced_where_they_enter():
    assert answers_of(one(text="a\ud800"), REQUEST, ids=False) == [Answer("a\ufffd", "stop")]


def test_seeds_are_31_bits_and_differ():
    seeds = {seed_of(KeyPath(1, 2, "q", sample, 0, 0, 0)) for sample in range(100)}
    assert len(seeds) == 100
    assert all(0 <= seed < 2**31 for seed in seeds)
