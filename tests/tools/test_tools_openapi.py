"""The OpenAPI document is true, and nothing that it lets through, nor anything else, makes the adapter fail."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
import schemathesis
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from schemathesis.specs.openapi.checks import positive_data_acceptance

from rest_jax.core.effects import ToolReply
from rest_jax.tools.openapi import openapi
from rest_jax.tools.registry import Tool
from rest_jax.tools.search.corpus import Passage, corpus_of
from rest_jax.tools.search.index import IndexSettings
from rest_jax.tools.search.search import Searcher, search_tools
from rest_jax.tools.server import create_app

ServeApp = Callable[[Callable[[], web.Application]], str]

ANSWERED_S = 60
"""Nothing may take so long."""

CORPUS = corpus_of([Passage("Oslo", "The capital of Norway."), Passage("It", "A novel by Stephen King.")])


async def echo(arguments: Mapping[str, Any], episode: str) -> ToolReply:
    return ToolReply(json.dumps(arguments), arguments)


async def broken(arguments: Mapping[str, Any], episode: str) -> ToolReply:
    raise ZeroDivisionError("a defect")


@pytest.fixture
def url(serve_app: ServeApp, tmp_path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("REST_JAX_CACHE", str(tmp_path))
    tools = [
        *search_tools(Searcher(CORPUS, IndexSettings()), results=1),
        Tool("echo", "1", "For tests.", {}, echo),
        Tool("broken", "1", "For tests.", {}, broken),
    ]
    return serve_app(lambda: create_app(tools, timeout_s=20))


schema = schemathesis.openapi.from_dict(openapi())


@schema.parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_requests_of_every_kind_are_answered_as_described(case: schemathesis.Case, url: str) -> None:
    response = case.call(base_url=url, timeout=ANSWERED_S)
    assert "Traceback" not in response.text
    # What a schema cannot say (ids are unique, …) is refused by a 400, and that is among the checks' valid requests.
    case.validate_response(response, excluded_checks=[positive_data_acceptance])


def test_the_document_is_served_and_is_one(url: str) -> None:
    status, text = answer(url, "GET", "/openapi.json", b"")
    assert (status, json.loads(text)) == (200, openapi())
    schema.validate()


def answer(url: str, method: str, path: str, body: bytes, content_type: str = "application/json") -> tuple[int, str]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=ANSWERED_S)
    try:
        connection.request(method, path, body, {"Content-Type": content_type})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("\ud800"),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=8), inside, max_size=3),
    max_leaves=10,
)
names = st.sampled_from(["search", "lookup", "echo", "broken", "none"]) | anything
calls = st.fixed_dictionaries(
    {"id": st.integers() | anything, "tool": names},
    optional={
        "arguments": anything
        | st.fixed_dictionaries({"query": anything}, optional={"k": anything})
        | st.fixed_dictionaries({"title": anything, "keyword": anything}, optional={"index": anything}),
        "episode": anything,
        "other": anything,
    },
)
batches = st.fixed_dictionaries(
    {"deadline_ms": st.sampled_from([1, 5_000]) | anything, "calls": st.lists(calls, max_size=3) | anything}
)
retrievals = st.fixed_dictionaries(
    {}, optional={name: anything | st.lists(st.text(max_size=9), max_size=3) for name in ("queries", "query", "topk")}
)
as_json = st.builds(lambda value: json.dumps(value).encode(), anything | batches | retrievals)
cut = st.builds(lambda body, at: body[: at % (len(body) + 1)], as_json, st.integers(0))


@pytest.mark.parametrize("path", ["/v1/call", "/retrieve"])
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=as_json | cut | st.binary())
def test_bodies_of_any_bytes_are_answered(url: str, path: str, body: bytes) -> None:
    status, text = answer(url, "POST", path, body)
    assert status in (200, 400, 422), text
    assert "Traceback" not in text
    said = json.loads(text)
    kind = {"/v1/call": "Results", "/retrieve": "Retrieved"}[path] if status == 200 else "Error"
    Draft202012Validator({"$ref": f"#/components/schemas/{kind}", **openapi()}).validate(said)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/call", 405),
        ("POST", "/healthz", 405),
        ("DELETE", "/retrieve", 405),
        ("GET", "/../../etc/passwd", 404),
        ("PUT", "/healthz", 405),
        ("GET", "/%00%ff", 404),
    ],
)
def test_what_is_not_there_is_said_in_json(url: str, method: str, path: str, status: int) -> None:
    got, text = answer(url, method, path, b"")
    assert got == status
    assert set(json.loads(text)) == {"error"}
