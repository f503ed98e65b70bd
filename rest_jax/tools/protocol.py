"""The wire format of `POST /v1/call`: a batch of calls, a deadline, and a typed result for each call.

Request
    {"deadline_ms": 20000, "calls": [{"id": 7, "episode": "q1#0", "tool": "search", "arguments": {"query": "…"}}]}
Response
    {"results": [{"id": 7, "ok": true, "content": "…", "data": {…}, "error": null, "cache": "miss", "attempts": 1,
                  "latency_ms": 1.5, "tool_version": "…"}]}
    `error` of a call that failed: {"kind": "timeout", "message": "…", "retryable": false}.
    `cache`: hit, miss, replay (from a cassette) or bypass (nothing remembers it).
    With `Accept: application/x-ndjson` each result is a line of its own, sent as soon as it is there.

Both sides are strict: an unknown, missing or wrong field raises `ProtocolError`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from rest_jax.core import http
from rest_jax.core.effects import ToolErrorKind, ToolFault, ToolReply

MAX_CALLS = 4096
"""Calls in one batch."""

MAX_BODY_BYTES = 8 * 2**20
"""Bytes of one request's body."""

MAX_DEPTH = 64
"""Lists and objects inside each other in a call's arguments: whoever walks deeper ones may run out of stack."""

ENVELOPE_BYTES = 100
"""What a batch has beside its calls, at most."""

MAX_DEADLINE_S = 86_400.0
"""The longest deadline that a batch may have."""

MAX_CONTENT_CHARS = 65_536
"""A result's content is cut here."""

MAX_RESULT_BYTES = 2 * 2**20
"""A result whose JSON would be longer, by its data, is a failure in its place."""

MAX_REPLY_BYTES = 64 * 2**20
"""The results of one batch take no more; those that would are failures."""

ROOMY_CALLS = MAX_REPLY_BYTES // MAX_RESULT_BYTES
"""A batch of so many calls has room for its results, whatever they are."""

LINES = "application/x-ndjson"

RETRYABLE = frozenset({ToolErrorKind.RATE_LIMITED, ToolErrorKind.INFRA})
"""Failures after which the same call may do better. A timeout is none: the call has had its time."""


_encoder = json.JSONEncoder(allow_nan=False)


class CacheStatus(StrEnum):
    """Where a result came from."""

    HIT = "hit"
    """The cache, or an equal call that was under way."""
    MISS = "miss"
    """The tool; the next equal call may find it in the cache."""
    REPLAY = "replay"
    """A cassette."""
    BYPASS = "bypass"
    """The tool; nothing remembers it."""


class ProtocolError(ValueError):
    """What arrived is not of this format; the message says where and how."""


@dataclass(frozen=True)
class Call:
    """One call of a tool. `episode` names the trajectory on whose behalf it is made."""

    id: int
    tool: str
    arguments: Mapping[str, Any]
    episode: str = ""
    begins: bool = False
    """Of a stateful tool: the episode begins, or begins again, with this call; what it asked before does not count."""


@dataclass(frozen=True)
class Batch:
    """Calls that travel together. Each has an answer or a failure after `deadline_s` seconds: a timeout if it had the
    time that is its own, `infra` and retryable if it waited for its turn instead."""

    calls: tuple[Call, ...]
    deadline_s: float


@dataclass(frozen=True)
class Result:
    """The answer to the call `id`."""

    id: int
    reply: ToolReply
    retryable: bool = False
    cache: CacheStatus = CacheStatus.BYPASS
    attempts: int = 1
    """How often the tool was run for it; 0 where it was not."""
    latency_ms: float = 0.0


def failure(id: int, kind: ToolErrorKind, message: str, *, retryable: bool | None = None) -> Result:
    """A call's failure; retryable as its kind is, unless the caller knows better."""
    fault = ToolFault(kind, message)
    return Result(id, ToolReply("", fault=fault), kind in RETRYABLE if retryable is None else retryable)


def is_too_deep(arguments: Mapping[str, Any]) -> bool:
    """Whether the arguments of a call are nested deeper than they may be."""
    level: list[Any] = [arguments]
    for _ in range(MAX_DEPTH):
        level = [
            part
            for value in level
            if isinstance(value, dict | list)
            for part in (value.values() if isinstance(value, dict) else value)
        ]
    return bool(level)


def too_deep() -> ToolFault:
    return ToolFault(ToolErrorKind.BAD_ARGUMENTS, f"more than {MAX_DEPTH} lists and objects inside each other")


def dump_batch(batch: Batch) -> bytes:
    calls = [_fields_of(call) for call in batch.calls]
    return json.dumps({"deadline_ms": round(batch.deadline_s * 1000), "calls": calls}).encode()


def divided(calls: Sequence[Call]) -> Iterator[Sequence[Call]]:
    """The calls in batches, in order, none larger than an adapter takes: unless one call alone is."""
    begin, size = 0, 0
    for at, call in enumerate(calls):
        more = len(json.dumps(_fields_of(call))) + len(", ")
        if at > begin and (at - begin == MAX_CALLS or size + more > MAX_BODY_BYTES - ENVELOPE_BYTES):
            yield calls[begin:at]
            begin, size = at, 0
        size += more
    if begin < len(calls):
        yield calls[begin:]


def _fields_of(call: Call) -> dict[str, Any]:
    fields = {"id": call.id, "episode": call.episode, "tool": call.tool, "arguments": dict(call.arguments)}
    return fields | ({"begins": True} if call.begins else {})


def parse_batch(body: bytes) -> Batch:
    fields = _fields(parse_json(body), "request", {"deadline_ms": (int, float), "calls": list})
    if not 0 < fields["deadline_ms"] <= 1000 * MAX_DEADLINE_S:
        raise ProtocolError(f"request: deadline_ms is not in (0, {1000 * MAX_DEADLINE_S:.0f}]")
    if len(fields["calls"]) > MAX_CALLS:
        raise ProtocolError(f"request: {len(fields['calls'])} calls are more than {MAX_CALLS}")
    calls = tuple(_call(value, f"calls[{place}]") for place, value in enumerate(fields["calls"]))
    if len({call.id for call in calls}) < len(calls):
        raise ProtocolError("request: two calls have one id")
    return Batch(calls, fields["deadline_ms"] / 1000)


def _call(value: Any, where: str) -> Call:
    fields = _fields(
        value, where, {"id": int, "tool": str, "arguments": dict}, optional={"episode": str, "begins": bool}
    )
    return Call(**fields)


def dump_result(result: Result) -> bytes:
    """One result as a line of JSON; a failure in its place where its data are no JSON, or too long."""
    try:
        line = _line_of(result)
    except (TypeError, ValueError, RecursionError) as error:
        return _line_of(_unfit(result, f"its data are no JSON: {error}"))
    if len(line) > MAX_RESULT_BYTES:
        return _line_of(_unfit(result, f"its reply of {len(line)} bytes is longer than {MAX_RESULT_BYTES}"))
    return line


class Room:
    """What is left of the room for one batch's results."""

    def __init__(self) -> None:
        self._left = MAX_REPLY_BYTES

    def line_of(self, result: Result, repeatable: bool) -> bytes:
        """The result as a line, or, where there is no room for it, a failure, retryable if the call is `repeatable`."""
        line = dump_result(result)
        if len(line) > self._left:
            unfit = _unfit(result, f"the replies of its batch are longer than {MAX_REPLY_BYTES} bytes")
            return _line_of(replace(unfit, retryable=repeatable))
        self._left -= len(line)
        return line


def _unfit(result: Result, why: str) -> Result:
    """The failure of a tool that made a reply which cannot be sent: its own defect, not the agent's."""
    fault = ToolFault(ToolErrorKind.INFRA, f"the tool failed: {why}")
    return replace(result, reply=replace(result.reply, content="", data={}, fault=fault), retryable=False)


def _line_of(result: Result) -> bytes:
    reply, fault = result.reply, result.reply.fault
    error = fault and {
        "kind": fault.kind.value,
        "message": fault.message[:MAX_CONTENT_CHARS],
        "retryable": result.retryable,
    }
    fields = {
        "id": result.id,
        "ok": reply.ok,
        "content": reply.content[:MAX_CONTENT_CHARS],
        "data": dict(reply.data),
        "error": error,
        "cache": result.cache.value,
        "attempts": result.attempts,
        "latency_ms": round(result.latency_ms, 3),
        "tool_version": reply.tool_version,
    }
    return _encoder.encode(fields).encode() + b"\n"


def parse_result(line: bytes) -> Result:
    fields = _fields(
        parse_json(line),
        "result",
        {
            "id": int,
            "ok": bool,
            "content": str,
            "data": dict,
            "error": (dict, type(None)),
            "cache": str,
            "attempts": int,
            "latency_ms": (int, float),
            "tool_version": str,
        },
    )
    if fields["ok"] is not (fields["error"] is None):
        raise ProtocolError("result: ok and error contradict each other")
    reply = ToolReply(fields["content"], fields["data"], None, fields["tool_version"])
    try:
        cache = CacheStatus(fields["cache"])
    except ValueError as unknown:
        raise ProtocolError(f"result: {unknown}") from None
    result = Result(fields["id"], reply, False, cache, fields["attempts"], fields["latency_ms"])
    if fields["error"] is None:
        return result
    error = _fields(fields["error"], "error", {"kind": str, "message": str, "retryable": bool})
    try:
        fault = ToolFault(ToolErrorKind(error["kind"]), error["message"])
    except ValueError as unknown:
        raise ProtocolError(f"error: {unknown}") from None
    return replace(result, reply=replace(reply, fault=fault), retryable=error["retryable"])


def parse_health(body: bytes) -> dict[str, Any]:
    """The answer to `GET /healthz`: further fields are the adapter's own affair."""
    health = parse_json(body)
    if (
        not isinstance(health, dict)
        or health.get("status") != "ok"
        or not isinstance(health.get("stateful"), list)
        or not isinstance(health.get("tools", {}), dict)
        or not _are_numbers(health.get("at_once", {}))
    ):
        raise ProtocolError("healthz: not what a tool adapter of this version answers")
    return health


def _are_numbers(places: Any) -> bool:
    return isinstance(places, dict) and all(isinstance(at_once, int) and at_once > 0 for at_once in places.values())


_Types = Mapping[str, type | tuple[type, ...]]


def _fields(value: Any, where: str, required: _Types, *, optional: _Types | None = None) -> dict[str, Any]:
    """The object's fields, each of its type; none missing, none unknown."""
    if not isinstance(value, dict):
        raise ProtocolError(f"{where}: not a JSON object")
    types = {**required, **(optional or {})}
    for name in required.keys() - value.keys():
        raise ProtocolError(f"{where}: {name} is missing")
    for name, field in value.items():
        if name not in types:
            raise ProtocolError(f"{where}: {name} is unknown; there is {', '.join(types)}")
        if not isinstance(field, types[name]) or (isinstance(field, bool) and types[name] is not bool):
            raise ProtocolError(f"{where}: {name} has the wrong type")
    return value


def parse_json(body: bytes) -> Any:
    """Any JSON; numbers that are none (NaN, Infinity) are refused. Raises ProtocolError."""
    try:
        return http.parse_json(body)
    except ValueError as error:
        raise ProtocolError(f"not JSON: {error}") from None
