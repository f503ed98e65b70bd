"""The wire format: there and back, and strict."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rest_jax.core.effects import ToolErrorKind, ToolFault, ToolReply
from rest_jax.tools.protocol import (
    Batch,
    Call,
    ProtocolError,
    Result,
    dump_batch,
    dump_result,
    failure,
    parse_batch,
    parse_result,
)
from rest_jax.tools.registry import ToolFailure, check_arguments

values = st.dictionaries(st.text(), st.text() | st.integers() | st.none(), max_size=3)


@given(st.lists(st.builds(Call, st.integers(), st.text(), values, st.text()), unique_by=lambda call: call.id))
def test_batch_round_trip(calls: list[Call]):
    batch = Batch(tuple(calls), 2.5)
    assert parse_batch(dump_batch(batch)) == batch


@given(st.integers(), st.text(), values, st.none() | st.builds(ToolFault, st.sampled_from(ToolErrorKind), st.text()))
def test_result_round_trip(id: int, content: str, data: dict, fault: ToolFault | None):
    result = Result(id, ToolReply(content, data, fault, "1"), retryable=fault is not None, attempts=2, latency_ms=1.5)
    line = dump_result(result)
    assert line.index(b"\n") == len(line) - 1
    assert parse_result(line) == result


def test_only_failures_that_may_pass_are_retryable():
    retryable = {kind for kind in ToolErrorKind if failure(1, kind, "").retryable}
    assert retryable == {ToolErrorKind.INFRA, ToolErrorKind.RATE_LIMITED}


CALL = {"id": 1, "tool": "search", "arguments": {}}


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ([], "request: not a JSON object"),
        ({"calls": []}, "request: deadline_ms is missing"),
        ({"deadline_ms": 0, "calls": []}, "deadline_ms is not positive"),
        ({"deadline_ms": True, "calls": []}, "deadline_ms has the wrong type"),
        ({"deadline_ms": 1, "calls": [], "call": 1}, "request: call is unknown"),
        ({"deadline_ms": 1, "calls": [CALL, CALL]}, "two calls have one id"),
        ({"deadline_ms": 1, "calls": [{**CALL, "arguments": []}]}, r"calls\[0\]: arguments has the wrong type"),
        ({"deadline_ms": 1, "calls": [{**CALL, "id": i} for i in range(1025)]}, "1025 calls are more than 1024"),
    ],
)
def test_bad_batches(request_: object, reason: str):
    with pytest.raises(ProtocolError, match=reason):
        parse_batch(json.dumps(request_).encode())


def test_bad_results():
    good = json.loads(dump_result(Result(1, ToolReply("x"))))
    for change in ({"ok": False}, {"error": {}}, {"content": None}, {"extra": 1}):
        with pytest.raises(ProtocolError):
            parse_result(json.dumps({**good, **change}).encode())
    error = {"kind": "no_such_kind", "message": "", "retryable": False}
    with pytest.raises(ProtocolError, match="no_such_kind"):
        parse_result(json.dumps({**good, "ok": False, "error": error}).encode())
    for line in (b"{", b"\xff", b"[" * 100_000):
        with pytest.raises(ProtocolError, match="not JSON"):
            parse_result(line)


SCHEMA = {
    "properties": {"query": {"type": "string", "minLength": 1, "maxLength": 5}, "k": {"type": "integer", "maximum": 3}},
    "required": ["query"],
}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "query is missing"),
        ({"query": 3}, "query is not of type string"),
        ({"query": ""}, "query is less than 1 characters"),
        ({"query": "abcdef"}, "query is more than 5 characters"),
        ({"query": "\ud800"}, "query is no valid Unicode"),
        ({"query": "a", "k": 4}, "k is more than 3"),
        ({"query": "a", "k": True}, "k is not of type integer"),
        ({"query": "a", "n": 1}, "n is not an argument; there is query, k"),
    ],
)
def test_arguments_that_break_the_schema(arguments: dict, reason: str):
    with pytest.raises(ToolFailure, match=reason) as error:
        check_arguments(SCHEMA, arguments)
    assert error.value.kind is ToolErrorKind.BAD_ARGUMENTS


def test_arguments_that_satisfy_the_schema():
    check_arguments(SCHEMA, {"query": "a<|im_", "k": 3} | {"query": "a"})
