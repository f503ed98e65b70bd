"""Web providers, each against a server that speaks its shape: what is asked, what comes back, and every way to fail."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
from aiohttp import web
from strangers import FAULTS, Handler, Opened, Serve, answering, call, failed

from rest_jax.core.effects import ToolErrorKind
from rest_jax.core.errors import UserError
from rest_jax.tools.adapter import Adapter
from rest_jax.tools.protocol import Call
from rest_jax.tools.search.brave import BraveSettings, open_brave, until_reset_s
from rest_jax.tools.search.fetch import FetchSettings, open_fetch
from rest_jax.tools.search.retriever import RetrieverSettings
from rest_jax.tools.search.serper import SerperSettings, open_serper
from rest_jax.tools.search.wikipedia import WikipediaSettings, open_wikipedia
from rest_jax.tools.service.service import open_service
from rest_jax.tools.service.settings import ProviderLimits, RetrySettings, ServiceSettings
from rest_jax.tools.settings import read_settings

KEY = "k-0123456789abcdef"
OPENERS: dict[str, Callable[[str], Opened]] = {
    "serper": lambda url: open_serper(SerperSettings(url=url, timeout_s=0.5)),
    "brave": lambda url: open_brave(BraveSettings(url=url, timeout_s=0.5)),
    "wikipedia": lambda url: open_wikipedia(WikipediaSettings(url=url, timeout_s=0.5, contact="me@example.org")),
}


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("SERPER_API_KEY", "BRAVE_API_KEY"):
        monkeypatch.setenv(variable, f" {KEY}\n")


def noting(requests: list[dict], payload: object) -> Handler:
    """Answers `payload` and notes what it was asked."""

    async def handler(request: web.Request) -> web.StreamResponse:
        body = await request.text()
        query, headers = dict(request.query), dict(request.headers)
        requests.append({"query": query, "headers": headers, "body": json.loads(body) if body else None})
        return web.json_response(payload)

    return handler


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("provider", OPENERS)
def test_every_fault_is_typed(serve: Serve, provider: str, fault: str):
    handler, kind, message = FAULTS[fault]
    failure = failed(OPENERS[provider](serve(handler)), "search", query="oslo")
    assert failure.kind is kind
    assert str(failure).startswith(provider)
    assert re.search(message, str(failure))
    assert failure.retry_after_s == (7 if fault == "limited" else 0)


@pytest.mark.parametrize(
    ("status", "headers", "says"),
    [
        (401, {}, "answered 401: {}; check your key for it, your plan and your credit"),
        (402, {}, "answered 402: {}; check your key"),
        (403, {}, "answered 403: {}; check your key"),
        (429, {"Retry-After": "601"}, "answered 429: {}; it asks to be left alone for 0.2 h: wait, change your plan"),
        (503, {"Retry-After": "36000"}, "answered 503: {}; it asks to be left alone for 10.0 h: wait"),
        (429, {"Retry-After": "600"}, None),
        (500, {}, None),
    ],
)
@pytest.mark.parametrize("provider", OPENERS)
async def test_what_no_repetition_mends_is_trouble(serve: Serve, provider: str, status: int, headers: dict, says: str):
    requests: list[web.Request] = []
    answer = answering({}, status=status, headers=headers)

    async def handler(request: web.Request) -> web.StreamResponse:
        requests.append(request)
        return await answer(request)

    limits = (ProviderLimits(provider),)
    settings = ServiceSettings(cache=None, limits=limits, retries=RetrySettings(2, first_s=0.01, last_s=0.01))
    async with OPENERS[provider](serve(handler)) as tools, open_service(settings, {}) as service:
        adapter = Adapter(tools, 5, service)
        result = await adapter.answer(Call(1, "search", {"query": "oslo"}), 5)
        assert result.reply.fault is not None
        if says is None:
            assert adapter.trouble == ""
        else:
            assert (adapter.trouble, result.retryable, len(requests)) == (result.reply.fault.message, False, 1)
            assert adapter.trouble.startswith(f"{provider} {says}")


@pytest.mark.parametrize("provider", OPENERS)
def test_a_provider_that_is_gone(nobody: str, provider: str):
    failure = failed(OPENERS[provider](nobody), "search", query="oslo")
    assert failure.kind is ToolErrorKind.INFRA
    assert "is out of reach" in str(failure)


@pytest.mark.parametrize("provider", ["serper", "brave"])
@pytest.mark.parametrize(("value", "says"), [("", "is not set; set it to the key"), ("short", "holds no key")])
def test_a_key_that_is_none_is_refused_at_start(monkeypatch: pytest.MonkeyPatch, provider: str, value: str, says: str):
    monkeypatch.setenv(f"{provider.upper()}_API_KEY", value)
    with pytest.raises(UserError, match=f"{provider.upper()}_API_KEY {says}"):
        call(OPENERS[provider]("http://127.0.0.1:1"), "search", query="oslo")


def test_serper(serve: Serve):
    requests: list[dict] = []
    organic = [
        {"title": "Oslo", "link": "https://a.org/?x=1&copy=2", "snippet": "The\ncapital", "date": "1 May 2020"},
        {"title": "Oslo \ud800", "link": "https://b.org", "position": 2},
        {"title": "Beyond k", "link": "https://c.org", "snippet": ""},
    ]
    url = serve(noting(requests, {"organic": organic, "credits": 1}))
    reply = call(open_serper(SerperSettings(url=url, country="no")), "search", query="what is oslo", k=2)
    assert reply.content == "Oslo: The capital\nOslo �: "
    assert reply.data["results"] == [
        {"title": "Oslo", "url": "https://a.org/?x=1&copy=2", "snippet": "The capital", "date": "1 May 2020"},
        {"title": "Oslo �", "url": "https://b.org", "snippet": ""},
    ]
    (request,) = requests
    assert request["body"] == {"q": "what is oslo", "num": 2, "gl": "no", "hl": "en"}
    assert request["headers"]["X-API-KEY"] == KEY


def test_brave(serve: Serve):
    requests: list[dict] = []
    result = {
        "title": "Ben &amp; Jerry&#x27;s",
        "url": "https://a.org/?x=1&copy=2",
        "description": "Ice",
        "age": "2 days",
    }
    url = serve(noting(requests, {"type": "search", "web": {"type": "search", "results": [result]}}))
    reply = call(open_brave(BraveSettings(url=url, urls=True)), "search", query="ice")
    assert reply.content == "Ben & Jerry's (https://a.org/?x=1&copy=2): Ice"
    assert reply.data["results"][0]["date"] == "2 days"
    (request,) = requests
    assert request["headers"]["X-Subscription-Token"] == KEY
    assert (request["query"]["q"], request["query"]["count"]) == ("ice", "5")


@pytest.mark.parametrize("provider", ["serper", "brave"])
def test_lookup_looks_in_the_snippets_of_pages_of_that_title(serve: Serve, provider: str):
    pages = [
        ("Oslo", "Oslo is a capital. It was founded in 1048."),
        ("Oslo Opera", "Founded in 1957."),
        ("OSLO", "No."),
    ]
    if provider == "serper":
        payload: dict = {
            "organic": [{"title": title, "link": "https://a.org", "snippet": text} for title, text in pages]
        }
    else:
        found = [{"title": title, "url": "https://a.org", "description": text} for title, text in pages]
        payload = {"type": "search", "web": {"type": "search", "results": found}}
    requests: list[dict] = []
    opened = OPENERS[provider]
    url = serve(noting(requests, payload))
    reply = call(opened(url), "lookup", title="oslo", keyword="founded")
    assert (reply.content, reply.data) == ("(Result 1 / 1) It was founded in 1048.", {"index": 0, "count": 1})
    for arguments in ({"title": "Oslo", "keyword": "founded", "index": 1}, {"title": "Bergen", "keyword": "founded"}):
        assert call(opened(url), "lookup", **arguments).content == "No more results."
    asked = [(request["body"] or request["query"])["q"] for request in requests]
    assert asked == ["oslo", "Oslo", "Bergen"]


def test_a_lookup_is_its_providers_as_a_search_is():
    async def both() -> tuple:
        async with open_serper(SerperSettings(cost=0.5)) as tools:
            return tools

    search, lookup = asyncio.run(both())
    for name in ("version", "provider", "cost", "deterministic", "stateful"):
        assert getattr(search, name) == getattr(lookup, name)


def test_brave_says_in_its_own_headers_when_to_come_back(serve: Serve):
    quotas = {"X-RateLimit-Remaining": "0, 1000", "X-RateLimit-Reset": "1, 1419704"}
    failure = failed(OPENERS["brave"](serve(answering({}, status=429, headers=quotas))), "search", query="ice")
    assert (failure.kind, failure.retry_after_s) == (ToolErrorKind.RATE_LIMITED, 1)
    assert until_reset_s({**quotas, "X-RateLimit-Remaining": "0, 0"}) == 1419704
    assert until_reset_s({**quotas, "Retry-After": "3"}) == 3
    assert until_reset_s({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "soon"}) == 0


@pytest.mark.parametrize(
    ("provider", "query"),
    [("serper", "x" * 2049), ("brave", "x" * 401), ("brave", "x " * 51), ("wikipedia", "x" * 301), ("serper", "")],
)
def test_a_query_that_the_provider_would_not_take_is_never_sent(serve: Serve, provider: str, query: str):
    requests: list[dict] = []
    failure = failed(OPENERS[provider](serve(noting(requests, {}))), "search", query=query)
    assert failure.kind is ToolErrorKind.BAD_ARGUMENTS
    assert requests == []


@pytest.mark.parametrize(
    ("provider", "payload"),
    [
        ("serper", {"organic": []}),
        ("brave", {"type": "search", "query": {"original": "zz"}}),
        ("wikipedia", {"batchcomplete": True}),
    ],
)
def test_nothing_found(serve: Serve, provider: str, payload: dict):
    reply = call(OPENERS[provider](serve(answering(payload))), "search", query="zz")
    assert (reply.content, reply.data) == ("Could not find zz.", {"results": []})


OSLO = {
    "pageid": 1,
    "index": 1,
    "title": "Oslo",
    "fullurl": "https://en.wikipedia.org/wiki/Oslo",
    "extract": "Oslo is a city. It is old. It lies by a fjord.\nThe fjord is deep.",
}
BERGEN = {**OSLO, "index": 2, "title": "Bergen", "extract": "Bergen is a city too."}


def test_wikipedia_search_shows_how_pages_begin_in_the_order_of_the_search(serve: Serve):
    requests: list[dict] = []
    url = serve(noting(requests, {"query": {"pages": [BERGEN, OSLO]}}))
    settings = WikipediaSettings(url=url, contact="me@example.org", sentences=2)
    assert call(open_wikipedia(settings), "search", query="norway").content == (
        "Oslo: Oslo is a city. It is old.\nBergen: Bergen is a city too."
    )
    (request,) = requests
    assert request["query"]["maxlag"] == "5"
    assert request["headers"]["User-Agent"] == "rest_jax/0.1.0 (me@example.org)"


def test_wikipedia_lookup_walks_one_page(serve: Serve):
    requests: list[dict] = []
    open_it = OPENERS["wikipedia"]
    url = serve(noting(requests, {"query": {"pages": [OSLO]}}))
    arguments = {"title": "Oslo|Rome", "keyword": "FJORD"}
    assert call(open_it(url), "lookup", **arguments).content == "(Result 1 / 2) It lies by a fjord."
    assert call(open_it(url), "lookup", **arguments, index=1).content == "(Result 2 / 2) The fjord is deep."
    assert call(open_it(url), "lookup", **arguments, index=2).content == "No more results."
    assert requests[0]["query"]["titles"] == "\x1fOslo|Rome"
    missing = serve(answering({"query": {"pages": [{"title": "Rome", "missing": True}]}}))
    failure = failed(open_it(missing), "lookup", title="Rome", keyword="x")
    assert (failure.kind, str(failure)) == (ToolErrorKind.BAD_ARGUMENTS, "no passage has the title 'Rome'")


def test_wikipedia_that_lags_asks_to_be_left_alone(serve: Serve):
    def refusal(code: str, **more: object) -> Opened:
        return OPENERS["wikipedia"](serve(answering({"error": {"code": code, "info": "why", **more}})))

    failure = failed(refusal("maxlag", lag=9.5), "search", query="oslo")
    assert (failure.kind, failure.retry_after_s) == (ToolErrorKind.RATE_LIMITED, 9.5)
    assert failed(refusal("ratelimited"), "search", query="oslo").retry_after_s == 5
    failure = failed(refusal("internal_api_error"), "search", query="oslo")
    assert (failure.kind, failure.retry_after_s) == (ToolErrorKind.INFRA, 0)


@pytest.mark.parametrize("contact", ["", "me", "me@example.org\r\nX-Evil: 1", "mé@example.org"])
def test_wikipedia_wants_a_contact(contact: str):
    settings = replace(WikipediaSettings(), contact=contact)
    with pytest.raises(UserError, match=r"wikipedia\.contact: expected an e-mail address"):
        call(open_wikipedia(settings), "search", query="oslo")


def test_wikipedia_is_asked_one_thing_at_a_time(serve: Serve):
    inside, most = 0, 0

    async def handler(_: web.Request) -> web.StreamResponse:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.02)
        inside -= 1
        return web.json_response({"query": {"pages": [OSLO]}})

    settings = WikipediaSettings(url=serve(handler), contact="me@example.org")

    async def run() -> None:
        async with open_wikipedia(settings) as (search, lookup):
            searches = [search.run({"query": f"oslo {i}"}, "") for i in range(4)]
            await asyncio.gather(*searches, lookup.run({"title": "Oslo", "keyword": "old"}, ""))

    asyncio.run(run())
    assert most == 1


ENTRIES = """
tools:
  - {kind: retriever, url: "http://127.0.0.1:8000/retrieve", corpus: wiki-18/e5, token_variable: MY_TOKEN}
  - {kind: serper, key_variable: MY_KEY, country: no}
  - {kind: brave, results: 3, urls: true, cost: 0.003}
  - {kind: wikipedia, contact: me@example.org, url: "https://de.wikipedia.org/w/api.php"}
  - {kind: fetch, allowed: [10.0.0.0/8]}
"""


def test_each_is_a_kind_of_tools_yaml(tmp_path: Path):
    path = tmp_path / "tools.yaml"
    path.write_text(ENTRIES.replace("country: no", "country: 'no'"))
    assert read_settings(path).tools == (
        RetrieverSettings("http://127.0.0.1:8000/retrieve", "wiki-18/e5", token_variable="MY_TOKEN"),
        SerperSettings(key_variable="MY_KEY", country="no"),
        BraveSettings(results=3, urls=True, cost=0.003),
        WikipediaSettings(contact="me@example.org", url="https://de.wikipedia.org/w/api.php"),
        FetchSettings(allowed=("10.0.0.0/8",)),
    )


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("{kind: retriever, url: 'http://a.org'}", "tools.yaml:1:9: tools.0: key 'corpus' is missing"),
        ("{kind: retriever, url: a.org, corpus: c}", "tools.yaml:1:32: tools.0.url: expected an address such as"),
        ("{kind: brave, url: 'ftp://a.org'}", "tools.yaml:1:28: tools.0.url: expected an address such as"),
        ("{kind: serper, key: abc}", "tools.yaml:1:24: unknown key 'key' in tools.0; known: url, results"),
        ("{kind: wikipedia}", "tools.yaml:1:9: tools.0.contact: expected an e-mail address"),
        ("{kind: fetch, allowed: [all]}", "tools.yaml:1:32: tools.0.allowed: 'all' does not appear to be"),
    ],
)
def test_what_will_not_do_is_named_where_it_stands(tmp_path: Path, entry: str, says: str):
    path = tmp_path / "tools.yaml"
    path.write_text(f"tools: [{entry}]")
    with pytest.raises(UserError, match=re.escape(says)):
        read_settings(path)


OTHERS = {"url": "http://127.0.0.1:2/", "results": 3, "urls": True}
PLACES = {**OTHERS, "country": "de", "language": "de"}


@pytest.mark.parametrize(
    ("opener", "settings", "deciding", "free"),
    [
        (open_serper, SerperSettings(), PLACES, {"timeout_s": 1.0, "cost": 0.1, "key_variable": "BRAVE_API_KEY"}),
        (open_brave, BraveSettings(), PLACES, {"timeout_s": 1.0, "cost": 0.1, "key_variable": "SERPER_API_KEY"}),
        (
            open_wikipedia,
            WikipediaSettings(contact="a@b.org"),
            {**OTHERS, "sentences": 2},
            {"timeout_s": 1.0, "cost": 0.1, "contact": "c@d.org"},
        ),
        (open_fetch, FetchSettings(), {"chars": 9, "bytes": 9, "allowed": ("10.0.0.0/8",)}, {"timeout_s": 1.0}),
    ],
)
def test_a_version_is_another_with_each_setting_that_decides(
    opener: Callable[..., Opened], settings: object, deciding: dict, free: dict
):
    def version(**changed: object) -> str:
        return versions(opener(replace(settings, **changed)))[0]

    assert {*deciding, *free} == {field.name for field in fields(settings)}
    assert len({version(), *(version(**{name: value}) for name, value in deciding.items())}) == 1 + len(deciding)
    assert {version(**{name: value}) for name, value in free.items()} == {version()}


def test_the_version_of_a_lookup_says_which_wiki():
    here = WikipediaSettings(contact="a@b.org")
    there = replace(here, url="https://de.wikipedia.org/w/api.php")
    assert versions(open_wikipedia(here))[1] != versions(open_wikipedia(there))[1]
    assert versions(open_wikipedia(here))[1] == versions(open_wikipedia(replace(here, results=1)))[1]


def versions(opened: Opened) -> list[str]:
    async def run() -> list[str]:
        async with opened as tools:
            return [tool.version for tool in tools]

    return asyncio.run(run())


def test_what_a_tool_says_of_itself(serve: Serve):
    async def run() -> None:
        async with open_brave(BraveSettings(cost=0.009)) as (search, _):
            assert (search.provider, search.cost, search.deterministic) == ("brave", 0.009, False)
            assert search.is_kept
            assert KEY not in repr(search)

    asyncio.run(run())
