"""Trajectories as rows: the Parquet schema, and the way there and back. Nothing is lost: ids and log-prob bits return.

A row is plain data (dicts, lists, numbers, text), so that it serves Parquet, the journal's JSON and the digest alike.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import pyarrow as pa

from rest_jax.core.canonical import canonical_json
from rest_jax.core.effects import Candidate, Finish, Role, Status, ToolErrorKind, ToolFault
from rest_jax.core.trajectory import SCHEMA_VERSION, Call, ScoreCall, ToolCall, Trajectory
from rest_jax.core.transcript import Segment, Source

VERSION_KEY = b"rest_jax.schema_version"

_IDS = pa.list_(pa.int32())
_LOGPROBS = pa.list_(pa.float32())
_SEGMENT = pa.struct(
    {"source": pa.string(), "text": pa.string(), "ids": _IDS, "logprobs": _LOGPROBS, "shots": pa.bool_()}
)
_CANDIDATE = pa.struct(
    {"ids": _IDS, "logprobs": _LOGPROBS, "text": pa.string(), "finish": pa.string(), "overhang": pa.string()}
)
_CALL = pa.struct(
    {
        "index": pa.int32(),
        "step": pa.string(),
        "trial": pa.int32(),
        "role": pa.string(),
        "segments": pa.list_(_SEGMENT),
        "candidates": pa.list_(_CANDIDATE),
        "chosen": pa.int32(),
        "parent": pa.int32(),
        "parent_candidate": pa.int32(),
    }
)
_TOOL_CALL = pa.struct(
    {
        "after": pa.int32(),
        "tool": pa.string(),
        "arguments": pa.string(),
        "content": pa.string(),
        "fault": pa.struct({"kind": pa.string(), "message": pa.string()}),
        "tool_version": pa.string(),
        "data": pa.string(),
    }
)
_SCORE_CALL = pa.struct(
    {
        "after": pa.int32(),
        "step": pa.string(),
        "role": pa.string(),
        "segments": pa.list_(_SEGMENT),
        "continuations": pa.list_(_SEGMENT),
        "parent": pa.int32(),
        "parent_candidate": pa.int32(),
    }
)
SCHEMA = pa.schema(
    {
        "question_id": pa.string(),
        "question": pa.string(),
        "sample": pa.int32(),
        "seed": pa.int64(),
        "generation": pa.int32(),
        "agent": pa.string(),
        "task": pa.string(),
        "split": pa.string(),
        "status": pa.string(),
        "answer": pa.string(),
        "why": pa.string(),
        "calls": pa.list_(_CALL),
        "tool_calls": pa.list_(_TOOL_CALL),
        "tokenizer_digest": pa.string(),
        "weights_digest": pa.string(),
        "scores": pa.list_(_SCORE_CALL),
        "seconds": pa.float64(),
        "attempts": pa.int32(),
    },
    metadata={VERSION_KEY: str(SCHEMA_VERSION).encode()},
)
"""One row per trajectory. `arguments` and `data` are JSON; log-probs are float32, null where no policy spoke."""

_NOT_IN_DIGEST = ("seconds", "attempts")


def to_row(trajectory: Trajectory) -> dict[str, Any]:
    """A trajectory as a row of `SCHEMA`."""
    row = _shallow(trajectory)
    row["calls"] = [_call_row(call) for call in trajectory.calls]
    row["tool_calls"] = [_tool_call_row(call) for call in trajectory.tool_calls]
    row["scores"] = [_score_row(score) for score in trajectory.scores]
    return row


def from_row(row: Mapping[str, Any]) -> Trajectory:
    """The trajectory of a row; `scores` is missing in those of before scores were stored.

    Raises KeyError, TypeError or ValueError when it is none.
    """
    rest = dict(row)
    return Trajectory(
        status=Status(rest.pop("status")),
        calls=tuple(_call(call) for call in rest.pop("calls")),
        tool_calls=tuple(_tool_call(call) for call in rest.pop("tool_calls")),
        scores=tuple(_score(score) for score in rest.pop("scores", ())),
        **rest,
    )


def canonical_row(trajectory: Trajectory) -> dict[str, Any]:
    """What a trajectory's digest covers: its row without timings, attempts and what tools told the agent alone;
    log-probs as the hex of their bits."""
    row = {name: value for name, value in to_row(trajectory).items() if name not in _NOT_IN_DIGEST}
    spoken = [said for call in row["calls"] for said in (*call["segments"], *call["candidates"])]
    spoken += [said for score in row["scores"] for said in (*score["segments"], *score["continuations"])]
    for said in spoken:
        if said["logprobs"] is not None:
            said["logprobs"] = struct.pack(f"<{len(said['logprobs'])}f", *said["logprobs"]).hex()
    for call in row["tool_calls"]:
        del call["data"]
    if not row["scores"]:
        del row["scores"]  # so that where nothing was scored the digest is that of before scores were stored
    return row


def _shallow(noun: Any) -> dict[str, Any]:
    """Its fields, but for those that are no part of what it is equal to."""
    return {field.name: getattr(noun, field.name) for field in fields(noun) if field.compare}


def _list(values: Sequence[Any] | None) -> list[Any] | None:
    return None if values is None else list(values)


def _tuple(values: Sequence[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)


def _call_row(call: Call) -> dict[str, Any]:
    row = _shallow(call)
    row["segments"] = [_spoken_row(segment) for segment in call.segments]
    row["candidates"] = [_spoken_row(candidate) for candidate in call.candidates]
    return row


def _call(row: Mapping[str, Any]) -> Call:
    rest = dict(row)
    return Call(
        role=Role(rest.pop("role")),
        segments=tuple(_segment(segment) for segment in rest.pop("segments")),
        candidates=tuple(_candidate(candidate) for candidate in rest.pop("candidates")),
        **rest,
    )


def _spoken_row(spoken: Segment | Candidate) -> dict[str, Any]:
    return _shallow(spoken) | {"ids": _list(spoken.ids), "logprobs": _list(spoken.logprobs)}


def _segment(row: Mapping[str, Any]) -> Segment:
    source, ids, logprobs = Source(row["source"]), _tuple(row["ids"]), _tuple(row["logprobs"])
    return Segment(source, row["text"], ids, logprobs, row["shots"])


def _candidate(row: Mapping[str, Any]) -> Candidate:
    finish, logprobs = Finish(row["finish"]), _tuple(row["logprobs"])
    return Candidate(tuple(row["ids"]), logprobs, row["text"], finish, row["overhang"])


def _tool_call_row(call: ToolCall) -> dict[str, Any]:
    row = _shallow(call)
    row["arguments"] = canonical_json(call.arguments)
    row["data"] = json.dumps(dict(call.data), ensure_ascii=False)
    row["fault"] = None if call.fault is None else _shallow(call.fault)
    return row


def _tool_call(row: Mapping[str, Any]) -> ToolCall:
    rest = dict(row)
    fault = rest.pop("fault")
    return ToolCall(
        arguments=json.loads(rest.pop("arguments")),
        data=json.loads(rest.pop("data")),
        fault=None if fault is None else ToolFault(ToolErrorKind(fault["kind"]), fault["message"]),
        **rest,
    )


def _score_row(score: ScoreCall) -> dict[str, Any]:
    row = _shallow(score)
    row["segments"] = [_spoken_row(segment) for segment in score.segments]
    row["continuations"] = [_spoken_row(segment) for segment in score.continuations]
    return row


def _score(row: Mapping[str, Any]) -> ScoreCall:
    rest = dict(row)
    return ScoreCall(
        role=Role(rest.pop("role")),
        segments=tuple(_segment(segment) for segment in rest.pop("segments")),
        continuations=tuple(_segment(segment) for segment in rest.pop("continuations")),
        **rest,
    )
