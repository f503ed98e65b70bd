"""A Search-R1 server as tools: Search-R1's own shape, our own adapter's, and every way to fail."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from aiohttp import web
from strangers import FAULTS, Opened, Serve, answering, call, failed

from rest_jax.core.effects import ToolErrorKind
from rest_jax.core.errors import UserError
from rest_jax.tools.search.corpus import Passage, corpus_of
from rest_jax.tools.search.index import IndexSettings
from rest_jax.tools.search.retriever import RetrieverSettings, open_retriever
from rest_jax.tools.search.search import Searcher, search_tools
from rest_jax.tools.server import create_app

PASSAGES = [
    Passage("Oslo", "Oslo is the capital of Norway. It lies by a fjord."),
    Passage("Oslo", "The fjord is deep."),
    Passage("Oslo Airport", "The airport by the fjord."),
]


def opened(url: str, **settings: object) -> Opened:
    return open_retriever(RetrieverSettings(url=url, corpus="wiki-18/bm25", timeout_s=0.5, **settings))


def document(at: int) -> dict:
    return {"id": str(at), "contents": f'"{PASSAGES[at].title}"\n{PASSAGES[at].text}'}


def test_search_r1s_own_shape(serve: Serve):
    asked: list[object] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append((request.path, await request.json(), request.headers.get("Authorization")))
        return web.json_response({"result": [[{"document": document(at), "score": 9.5 - at} for at in range(3)]]})

    url = f"{serve(handler)}/retrieve"
    reply = call(opened(url), "search", query="oslo", k=2)
    assert reply.content == f"Oslo: {PASSAGES[0].text}\nOslo: {PASSAGES[1].text}"
    assert reply.data["results"][1] == {"id": "1", "title": "Oslo", "text": PASSAGES[1].text, "score": 8.5}
    assert asked == [("/retrieve", {"queries": ["oslo"], "topk": 2, "return_scores": True}, None)]


def test_a_server_that_leaves_scores_out(serve: Serve):
    reply = call(opened(serve(answering({"result": [[document(0)]]}))), "search", query="oslo")
    assert reply.data["results"] == [{"id": "0", "title": "Oslo", "text": PASSAGES[0].text, "score": 0}]


def test_lookup_looks_in_all_passages_of_the_title_and_in_no_other(serve: Serve):
    result = {"result": [[{"document": document(at), "score": 1} for at in (2, 0, 1)]]}
    arguments = {"title": "OSLO", "keyword": "fjord"}
    url = serve(answering(result))
    assert call(opened(url), "lookup", **arguments).content == "(Result 1 / 2) It lies by a fjord."
    assert call(opened(url), "lookup", **arguments, index=1).content == "(Result 2 / 2) The fjord is deep."
    assert call(opened(url), "lookup", **arguments, index=2).content == "No more results."
    failure = failed(opened(url), "lookup", title="Rome", keyword="x")
    assert (failure.kind, str(failure)) == (ToolErrorKind.BAD_ARGUMENTS, "no passage has the title 'Rome'")


def test_nothing_found(serve: Serve):
    reply = call(opened(serve(answering({"result": [[]]}))), "search", query="zz")
    assert (reply.content, reply.data) == ("Could not find zz.", {"results": []})


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_typed(serve: Serve, fault: str):
    handler, kind, message = FAULTS[fault]
    failure = failed(opened(serve(handler)), "search", query="oslo")
    assert failure.kind is kind
    assert re.search(message, str(failure))
    assert failure.retry_after_s == (7 if fault == "limited" else 0)


@pytest.mark.parametrize(
    "payload",
    [
        {"result": []},
        {"result": [[], []]},
        {"result": [["text"]]},
        {"result": [[{"document": {"id": 1}}]]},
        {"result": [[{"document": {"contents": "\nno title"}}]]},
        {"result": [[{"document": document(0), "score": "high"}]]},
    ],
)
def test_what_is_no_search_r1_answer(serve: Serve, payload: object):
    failure = failed(opened(serve(answering(payload))), "search", query="oslo")
    assert failure.kind is ToolErrorKind.INFRA
    assert "did not answer in its own shape" in str(failure)


def test_token(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != "Bearer t-0123456789":
            raise web.HTTPUnauthorized
        return web.json_response({"result": [[document(0)]]})

    url = serve(handler)
    assert failed(opened(url), "search", query="oslo").kind is ToolErrorKind.INFRA
    monkeypatch.setenv("RETRIEVER_TOKEN", "t-0123456789")
    assert call(opened(url, token_variable="RETRIEVER_TOKEN"), "search", query="oslo").ok
    monkeypatch.delenv("RETRIEVER_TOKEN")
    with pytest.raises(UserError, match="RETRIEVER_TOKEN is not set"):
        call(opened(url, token_variable="RETRIEVER_TOKEN"), "search", query="oslo")


def test_our_own_adapter_is_such_a_server(serve_app: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REST_JAX_CACHE", str(tmp_path))
    tools = search_tools(Searcher(corpus_of(PASSAGES), IndexSettings()), results=1)
    url = serve_app(lambda: create_app(tools, timeout_s=20))  # type: ignore[operator]
    for query in ("fjord airport", "capital", "deep"):
        (ours,) = (tool for tool in tools if tool.name == "search")
        here = asyncio.run(ours.run({"query": query, "k": 3}, ""))
        assert call(opened(f"{url}/retrieve"), "search", query=query, k=3) == here
    keyword = {"title": "Oslo", "keyword": "fjord"}
    assert call(opened(f"{url}/retrieve"), "lookup", **keyword).data == {"index": 0, "count": 2}


def test_the_corpus_stands_in_the_version():
    async def versions(corpus: str) -> set[str]:
        async with open_retriever(RetrieverSettings(url="http://127.0.0.1:1/retrieve", corpus=corpus)) as tools:
            assert {tool.provider for tool in tools} == {"127.0.0.1:1"}
            return {tool.version for tool in tools}

    assert asyncio.run(versions("wiki-18/e5")).isdisjoint(asyncio.run(versions("wiki-20/e5")))
