"""Search-R1's contract, as its own clients speak it, over a real corpus and over tools that fail."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.tools.registry import Tool, ToolFailure
from rest_jax.tools.search.corpus import Passage, corpus_of
from rest_jax.tools.search.index import IndexSettings
from rest_jax.tools.search.search import Searcher, search_tools
from rest_jax.tools.server import SEARCHES, create_app
from rest_jax.tools.service.query import Answer, Query
from rest_jax.tools.service.service import Service

ServeApp = Callable[[Callable[[], web.Application]], str]

CORPUS = corpus_of(
    [
        Passage("Oslo", "The capital of Norway.\nIt lies on a fjord."),
        Passage("Bergen", "A city in Norway."),
        Passage("It", "A novel by Stephen King."),
    ]
)


@pytest.fixture
def url(serve_app: ServeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("REST_JAX_CACHE", str(tmp_path))
    tools = search_tools(Searcher(CORPUS, IndexSettings()), results=2)
    return serve_app(lambda: create_app(tools, timeout_s=20))


def served(serve_app: ServeApp, run: Any) -> str:
    return serve_app(lambda: create_app([Tool("search", "1", "For tests.", {}, run)], timeout_s=20))


def post(url: str, **body: Any) -> Any:
    return json.loads(posted(url, **body))


def posted(url: str, **body: Any) -> bytes:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/retrieve", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as response:
        return response.read()


def refused(url: str, **body: Any) -> tuple[int, str]:
    with pytest.raises(urllib.error.HTTPError) as error:
        post(url, **body)
    with error.value as response:
        return response.code, json.load(response)["error"]


def shown_to_a_model(documents: list[dict[str, Any]]) -> str:
    """As Search-R1's `_passages2string` writes them."""
    lines = []
    for number, item in enumerate(documents, 1):
        title, _, text = item["document"]["contents"].partition("\n")
        lines.append(f"Doc {number}(Title: {title}) {text}")
    return "\n".join(lines)


def test_queries_with_scores(url: str) -> None:
    answer = post(url, queries=["fjord", "novel", "no such word"], topk=3, return_scores=True)
    assert list(answer) == ["result"]
    fjord, novel, nothing = answer["result"]
    assert shown_to_a_model(fjord) == "Doc 1(Title: Oslo) The capital of Norway.\nIt lies on a fjord."
    assert [set(item) for item in fjord] == [{"document", "score"}]
    assert fjord[0]["score"] > 0
    assert novel[0]["document"] == {"id": "1", "contents": "It\nA novel by Stephen King."}
    assert nothing == []


def test_the_answer_is_the_same_to_the_byte(serve_app: ServeApp) -> None:
    async def run(arguments: Mapping[str, Any], episode: str) -> ToolReply:
        return ToolReply("", {"results": [{"id": "7", "title": '"Émile"', "text": "Ein Buch.", "score": 1.5}]})

    url = served(serve_app, run)
    document = '{"id":"7","contents":"\\"Émile\\"\\nEin Buch."}'
    assert posted(url, queries=["a"], return_scores=True).decode() == (
        f'{{"result":[[{{"document":{document},"score":1.5}}]]}}'
    )
    assert posted(url, queries=["a"]).decode() == f'{{"result":[[{document}]]}}'


def test_without_scores_the_documents_are_bare_and_as_many_as_the_settings_say(url: str) -> None:
    ((first, second),) = post(url, queries=["a city, the capital of Norway, a novel by King"])["result"]
    assert set(first) == set(second) == {"id", "contents"}
    (one,) = post(url, query="Norway", topk=1)["result"]
    assert [document["contents"].partition("\n")[0] for document in one] == ["Bergen"]
    assert post(url, queries=["Norway"], topk=0) == post(url, queries=["Norway"], topk=None)


def test_what_a_model_may_write_never_fails_the_queries_of_others(url: str) -> None:
    nothing, found, too_long, surrogate = post(url, queries=[" \n", "fjord", "x" * 9_999, "\ud800"])["result"]
    assert (nothing, too_long, surrogate) == ([], [], [])
    assert len(found) == 1
    assert post(url, queries=[]) == {"result": []}


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"queries": ["a"], "topk": 51}, 422, "search takes no such topk: k: 51 is greater than the maximum of 50"),
        ({"queries": "a"}, 400, "request: expected queries, a list of texts, or query, one text"),
        ({"queries": [1]}, 400, "request: expected queries, a list of texts, or query, one text"),
        ({}, 400, "request: expected queries, a list of texts, or query, one text"),
        ({"query": "a", "topk": "3"}, 400, "request: topk is no whole number"),
        ({"query": "a", "topk": -1}, 400, "request: topk is no whole number"),
        ({"query": "a", "return_scores": 1}, 400, "request: return_scores is neither true nor false"),
        ({"queries": ["a"] * 4097}, 400, "request: 4097 queries are more than 4096"),
    ],
)
def test_what_is_refused(url: str, body: dict[str, Any], status: int, says: str) -> None:
    assert refused(url, **body) == (status, says)


def test_infrastructure_fails_the_request_and_is_no_empty_result(serve_app: ServeApp) -> None:
    def failing(kind: ToolErrorKind) -> Any:
        async def run(arguments: Mapping[str, Any], episode: str) -> ToolReply:
            if arguments["query"] == "well":
                return ToolReply("", {"results": []})
            raise ToolFailure(kind, "down")

        return run

    down = served(serve_app, failing(ToolErrorKind.INFRA))
    assert post(down, queries=["well"]) == {"result": [[]]}
    assert refused(down, queries=["well", "bad"]) == (503, "infra: down")
    limited = served(serve_app, failing(ToolErrorKind.RATE_LIMITED))
    assert refused(limited, query="bad") == (429, "rate_limited: down")


def test_web_results_are_documents_too(serve_app: ServeApp) -> None:
    async def run(arguments: Mapping[str, Any], episode: str) -> ToolReply:
        return ToolReply("", {"results": [{"title": "Oslo", "url": "http://o.example", "snippet": "A city."}]})

    answer = post(served(serve_app, run), query="oslo", return_scores=True)
    assert answer == {"result": [[{"document": {"id": "http://o.example", "contents": "Oslo\nA city."}, "score": 0.0}]]}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, "search: its replies do not name the documents that it found"),
        ({"results": ["Oslo"]}, "search: its replies do not name the documents that it found"),
        ({"results": [{"title": "Oslo", "score": float("nan")}]}, "search: Out of range float values are not JSON"),
    ],
)
def test_a_search_that_names_no_documents_is_no_empty_result(serve_app: ServeApp, data: Any, says: str) -> None:
    async def run(arguments: Mapping[str, Any], episode: str) -> ToolReply:
        return ToolReply("Oslo: a city.", data)

    status, said = refused(served(serve_app, run), queries=["oslo", "bergen"], return_scores=True)
    assert status == 503
    assert says in said


def test_documents_that_are_too_long_together_end_the_request(serve_app: ServeApp) -> None:
    asked: list[str] = []

    async def run(arguments: Mapping[str, Any], episode: str) -> ToolReply:
        asked.append(arguments["query"])
        return ToolReply("", {"results": [{"title": "Oslo", "text": "x" * 20_000_000}]})

    status, said = refused(served(serve_app, run), queries=[f"oslo {i}" for i in range(100)])
    assert (status, said) == (413, "more than 67108864 bytes of documents; ask for fewer at a time")
    assert len(asked) < 4 + 2 * SEARCHES


def test_a_large_request_takes_its_turns_among_the_others(serve_app: ServeApp) -> None:
    begun = 0
    others: list[int] = []

    def another() -> None:
        """Whoever else uses the loop: how many searches began since it had its last turn?"""
        others.append(begun - sum(others))
        if sum(others) < 400:
            asyncio.get_running_loop().call_soon(another)

    async def run(arguments: Mapping[str, Any], episode: str) -> ToolReply:
        nonlocal begun
        if begun == 0:
            asyncio.get_running_loop().call_soon(another)
        begun += 1
        return ToolReply("", {"results": [{"title": "Oslo", "text": "A city."}]})

    answer = post(served(serve_app, run), queries=[f"oslo {i}" for i in range(400)])
    assert answer["result"] == [[{"id": "", "contents": "Oslo\nA city."}]] * 400
    assert sum(others) == begun == 400
    assert max(others) <= 2 * SEARCHES


def test_what_is_remembered_is_looked_up_once_for_a_whole_request(serve_app: ServeApp) -> None:
    looks: list[int] = []

    class Shelf:
        async def recall(self, queries: Sequence[Query]) -> list[Answer | None]:
            looks.append(len(queries))
            return [self.known(query.arguments["query"]) for query in queries]

        def known(self, query: str) -> Answer | None:
            result = {"title": query, "text": "remembered"}
            return Answer(ToolReply("", {"results": [result]})) if query != "new" else None

        async def keep(self, query: Query, answer: Answer) -> Answer:
            return answer

    async def run(arguments: Mapping[str, Any], episode: str) -> ToolReply:
        return ToolReply("", {"results": [{"title": arguments["query"], "text": "found"}]})

    tool = Tool("search", "1", "For tests.", {}, run)
    url = serve_app(lambda: create_app([tool], timeout_s=20, service=Service(memories=[Shelf()])))
    answer = post(url, queries=["a", "b", "new", "a"])
    assert [document["contents"] for (document,) in answer["result"]] == [
        "a\nremembered",
        "b\nremembered",
        "new\nfound",
        "a\nremembered",
    ]
    assert looks == [4, 1]  # what is not known is asked for by itself


def test_an_adapter_without_search_says_so(serve_app: ServeApp) -> None:
    url = serve_app(lambda: create_app([], timeout_s=20))
    assert refused(url, query="a") == (404, "this adapter has no tool called search")
