"""The wire format: there and back, and strict."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rest_jax.core.effects import ToolErrorKind, ToolFault, ToolReply
from rest_jax.tools.protocol import (
    MAX_DEPTH,
    Batch,
    Call,
    ProtocolError,
    Result,
    dump_batch,
    dump_result,
    failure,
    is_too_deep,
    parse_batch,
    parse_health,
    parse_result,
)
from rest_jax.tools.registry import Tool, ToolFailure

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
        ({"deadline_ms": 0, "calls": []}, "deadline_ms is not in"),
        ({"deadline_ms": float("nan"), "calls": []}, "NaN is no JSON number"),
        ({"deadline_ms": True, "calls": []}, "deadline_ms has the wrong type"),
        ({"deadline_ms": 1, "calls": [], "call": 1}, "request: call is unknown"),
        ({"deadline_ms": 1, "calls": [CALL, CALL]}, "two calls have one id"),
        ({"deadline_ms": 1, "calls": [{**CALL, "arguments": []}]}, r"calls\[0\]: arguments has the wrong type"),
        ({"deadline_ms": 1, "calls": [{**CALL, "id": i} for i in range(4097)]}, "4097 calls are more than 4096"),
        ({"deadline_ms": 10**400, "calls": []}, "deadline_ms is not in"),
    ],
)
def test_bad_batches(request_: object, reason: str):
    with pytest.raises(ProtocolError, match=reason):
        parse_batch(json.dumps(request_).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"status": "ill"},
        {"stateful": None},
        {"tools": ["search"]},
        {"tools": None},
        {"at_once": []},
        {"at_once": {"python": 0}},
        {"at_once": {"python": "4"}},
    ],
    ids=str,
)
def test_bad_health(change: dict):
    good = {"status": "ok", "stateful": [], "tools": {"search": "1"}, "pid": 7}
    assert parse_health(json.dumps(good).encode()) == good
    with pytest.raises(ProtocolError, match="not what a tool adapter of this version answers"):
        parse_health(json.dumps({**good, **change}).encode())


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


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_how_deep_arguments_may_be():
    assert not is_too_deep({"a": nested(MAX_DEPTH - 2)})
    assert is_too_deep({"a": nested(MAX_DEPTH)})
    assert is_too_deep({"a": {"b": nested(5000)}})


SCHEMA = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "minLength": 1, "maxLength": 5},
        "k": {"type": "integer", "maximum": 3},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["query"],
    "additionalProperties": False,
}


async def nothing(arguments: Mapping[str, Any], episode: str) -> ToolReply:
    return ToolReply("")


TOOL = Tool("look", "1", "For tests.", SCHEMA, nothing)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "'query' is a required property"),
        ({"query": 3}, "query: 3 is not of type 'string'"),
        ({"query": ""}, "query: '' should be non-empty"),
        ({"query": "abcdef"}, "query: 'abcdef' is too long"),
        ({"query": "\ud800"}, "is no valid Unicode"),
        ({"query": "a", "tags": ["b", "\udfff"]}, "is no valid Unicode"),
        ({"query": "a", "tags": ["b", 1]}, r"tags\[1\]: 1 is not of type 'string'"),
        ({"query": "a", "k": 4}, "k: 4 is greater than the maximum of 3"),
        ({"query": "a", "k": True}, "k: True is not of type 'integer'"),
        ({"query": "a", "k": 1.5}, "k: 1.5 is not of type 'integer'"),
        ({"query": "a", "n": 1}, "'n' was unexpected"),
        ({"query": nested(MAX_DEPTH)}, "more than 64 lists and objects inside each other"),
    ],
)
def test_arguments_that_break_the_schema(arguments: dict, reason: str):
    with pytest.raises(ToolFailure, match=reason) as error:
        TOOL.check(arguments)
    assert error.value.kind is ToolErrorKind.BAD_ARGUMENTS


def test_arguments_that_satisfy_the_schema():
    TOOL.check({"query": "<|im_"})
    arguments = {"query": "a", "k": 3, "tags": ["b"]}
    assert TOOL.check(arguments) == arguments


def test_an_integer_is_one_however_it_is_written():
    checked = Tool("any", "1", "", {"type": "object"}, nothing).check({"k": 2.0, "x": [{"n": -0.0}, 0.5, True, 1e300]})
    assert repr(checked) == repr({"k": 2, "x": [{"n": 0}, 0.5, True, int(1e300)]})
