"""The adapter's routes as an OpenAPI 3.1 document, for other programs and for the tests that fuzz them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rest_jax.core.effects import ToolErrorKind
from rest_jax.tools import protocol
from rest_jax.tools.protocol import LINES, MAX_CALLS, MAX_CONTENT_CHARS, MAX_DEADLINE_S, CacheStatus

Schema = dict[str, Any]

JSON = "application/json"


def openapi() -> dict[str, Any]:
    """The document. What tools there are, and what arguments they take, says `GET /v1/tools`."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "rest_jax tool adapter", "version": "1", "description": __doc__},
        "paths": {
            "/v1/call": {"post": _post("call", "Answer a batch of tool calls.", "Batch", "Results", _LINES)},
            "/retrieve": {
                "post": _post("retrieve", "Search-R1's retrieval server, over `search`.", "Retrieval", "Retrieved")
                | {"description": "429 and 503: a search failed by no fault of its query."}
            },
            "/v1/tools": {"get": _get("tools", "The tools.", _answer("Tools"))},
            "/healthz": {"get": _get("health", "That it answers, who it is, and what it serves.", _answer("Health"))},
            "/metrics": {"get": _get("metrics", "Counters.", {"text/plain": {"schema": {"type": "string"}}})},
            "/openapi.json": {"get": _get("openapi", "This document.", {JSON: {"schema": {"type": "object"}}})},
        },
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _post(name: str, summary: str, takes: str, gives: str, also: Schema | None = None) -> dict[str, Any]:
    refused = {
        "400": "Not of this format.",
        "404": "No such tool for it.",
        "408": "The body came too slowly.",
        "413": "The body, or what it asks for, is too long.",
        "415": f"The body is not {JSON}.",
        "422": "No tool would take it.",
        "429": "A provider's limit.",
        "503": "It cannot be answered now.",
    }
    return {
        **_get(name, summary, {**_answer(gives), **(also or {})}, refused),
        "requestBody": {"required": True, "content": {JSON: {"schema": _ref(takes)}}},
    }


def _get(name: str, summary: str, content: Schema, refused: Mapping[str, str] | None = None) -> dict[str, Any]:
    errors = {
        "401": "The token is missing or another.",
        "403": "It listens on loopback, and was asked by another name, or on behalf of a web page.",
        **(refused or {}),
    }
    return {
        "operationId": name,
        "summary": summary,
        "responses": {
            "200": {"description": "The answer.", "content": content},
            **{status: {"description": why, "content": _answer("Error")} for status, why in errors.items()},
        },
    }


def _answer(schema: str) -> dict[str, Any]:
    return {JSON: {"schema": _ref(schema)}}


def _ref(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}


def _object(
    required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None, *, open: bool = False
) -> Schema:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": open,
    }


def _list(items: Schema, **limits: int) -> Schema:
    return {"type": "array", "items": items, **limits}


def _one_of(names: Iterable[str]) -> Schema:
    return {"enum": [str(name) for name in names]}


_TEXT: Schema = {"type": "string"}
_WHOLE: Schema = {"type": "integer"}
_NUMBER: Schema = {"type": "number"}
_BOOLEAN: Schema = {"type": "boolean"}
_ANY_OBJECT: Schema = {"type": "object"}

_CALL = _object({"id": _WHOLE, "tool": _TEXT, "arguments": _ANY_OBJECT}, {"episode": _TEXT, "begins": _BOOLEAN})
_FAULT = _object({"kind": _one_of(ToolErrorKind), "message": _TEXT, "retryable": _BOOLEAN})
_DOCUMENT = _object({"id": _TEXT, "contents": _TEXT})
_QUERIES = {
    "topk": {"type": ["integer", "null"], "minimum": 0, "description": "Documents for each; 0, null: its own setting."},
    "return_scores": _BOOLEAN,
}

_SCHEMAS: Schema = {
    "Error": _object({"error": _TEXT}),
    "Batch": _object(
        {
            "deadline_ms": {
                "type": "number",
                "exclusiveMinimum": 0,
                "maximum": 1000 * MAX_DEADLINE_S,
                "description": "A call without an answer after it fails: as a timeout, or, where it waited for its "
                "turn, as infra and retryable.",
            },
            "calls": _list(_ref("Call"), maxItems=MAX_CALLS),
        }
    )
    | {"description": f"At most {protocol.MAX_BODY_BYTES} bytes; ids are unique."},
    "Call": _CALL
    | {
        "description": "`episode` names the trajectory on whose behalf the call is made; with a call that `begins` it, "
        "what it asked of stateful tools before is forgotten."
    },
    "Results": _object({"results": _list(_ref("Result"), maxItems=MAX_CALLS)})
    | {"description": "Each names its call, in any order."},
    "Result": _object(
        {
            "id": _WHOLE,
            "ok": _BOOLEAN,
            "content": {"type": "string", "maxLength": MAX_CONTENT_CHARS, "description": "What the model may see."},
            "data": _ANY_OBJECT,
            "error": {"anyOf": [_ref("Fault"), {"type": "null"}]},
            "cache": _one_of(CacheStatus),
            "attempts": {"type": "integer", "minimum": 0, "description": "How often the tool was run for it."},
            "latency_ms": {"type": "number", "minimum": 0},
            "tool_version": _TEXT,
        }
    ),
    "Fault": _FAULT | {"description": "Only bad_arguments and tool_error are the agent's own."},
    "Retrieval": {
        "anyOf": [
            _object({"queries": _list(_TEXT, maxItems=MAX_CALLS)}, _QUERIES, open=True),
            _object({"query": _TEXT}, _QUERIES, open=True),
        ]
    },
    "Retrieved": _object(
        {"result": _list(_list({"anyOf": [_DOCUMENT, _object({"document": _DOCUMENT, "score": _NUMBER})]}))}
    )
    | {"description": "A list for each query; with `return_scores` each document beside its score."},
    "Tools": _object(
        {
            "tools": _list(
                _object(
                    {
                        "type": {"const": "function"},
                        "function": _object({"name": _TEXT, "description": _TEXT, "parameters": _ANY_OBJECT}),
                        "version": _TEXT,
                        "deterministic": _BOOLEAN,
                        "stateful": _BOOLEAN,
                        "cost": {"type": "number", "minimum": 0, "description": "US dollars a call."},
                    }
                )
            )
        }
    ),
    "Health": _object(
        {
            "status": {"const": "ok"},
            "trouble": {"type": "string", "description": "Why it is pointless to go on; empty while it is not."},
            "pid": _WHOLE,
            "tools": {"type": "object", "additionalProperties": _TEXT, "description": "Each with its version."},
            "stateful": _list(_TEXT),
            "at_once": {
                "type": "object",
                "additionalProperties": {"type": "integer", "minimum": 1},
                "description": "Tools whose calls wait for their turn: how many have it at one time.",
            },
            "about": _ANY_OBJECT,
        },
        open=True,
    ),
}

_LINES: Schema = {
    LINES: {"schema": {"type": "string", "description": "A `Result` on each line, as soon as it is there."}}
}
