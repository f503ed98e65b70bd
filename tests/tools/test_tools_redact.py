"""Secrets: where they come from, and that they are nowhere else."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from strangers import Serve

from rest_jax.config.settings import ToolsSettings
from rest_jax.core.effects import ToolErrorKind, ToolFault, ToolReply
from rest_jax.core.errors import UserError
from rest_jax.core.secrets import HIDDEN, redacted, secret
from rest_jax.tools.client import ToolClient
from rest_jax.tools.process import adapter
from rest_jax.tools.redact import (
    TOKEN_VARIABLE,
    own_token,
    redacting,
    redacting_logs,
    secrets_of,
)
from rest_jax.tools.registry import Tool, ToolFailure

ROOT = Path(__file__).parents[2]
KEY = 'k-01234"/56789 abc'


@dataclass(frozen=True)
class Entry:
    key_variable: str | None = "A_KEY"
    other: str = "B_KEY"


@dataclass(frozen=True)
class Settings:
    entries: tuple[Entry, ...]
    token_variable: str = "C_KEY"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    monkeypatch.setenv("A_KEY", f"{KEY}\n")
    monkeypatch.setenv("B_KEY", "b-012345678")
    monkeypatch.setenv("C_KEY", "c-0123456789012345678")


def test_the_secrets_that_settings_name(monkeypatch: pytest.MonkeyPatch):
    settings = Settings((Entry(), Entry("NOT_SET"), Entry(None)))
    assert secrets_of(settings) == ("c-0123456789012345678", KEY)
    monkeypatch.setenv(TOKEN_VARIABLE, "token-of-the-adapter-itself")
    assert secrets_of(()) == ("token-of-the-adapter-itself",)


@pytest.mark.parametrize("value", ["", "   ", "short", "no ascii é"])
def test_what_is_no_secret(monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.setenv("A_KEY", value)
    with pytest.raises(UserError, match="A_KEY") as error:
        secret("A_KEY")
    assert not value.strip() or value.strip() not in str(error.value)


def test_the_adapters_own_token_is_a_secret_like_others(monkeypatch: pytest.MonkeyPatch):
    assert own_token() is None
    monkeypatch.setenv(TOKEN_VARIABLE, "long-enough\n")
    assert own_token() == "long-enough"
    monkeypatch.setenv(TOKEN_VARIABLE, "short")
    for use in (own_token, lambda: ToolClient("http://127.0.0.1:1", ToolsSettings())):
        with pytest.raises(UserError, match=f"{TOKEN_VARIABLE} holds no key: 8 or more"):
            use()


def test_every_spelling_goes():
    text = f"{KEY} ?key=k-01234%22%2F56789%20abc&x {json.dumps({'key': KEY})} k-01234"
    assert redacted(text, (KEY,)) == f'{HIDDEN} ?key={HIDDEN}&x {{"key": "{HIDDEN}"}} k-01234'
    assert redacted("abcdefgh12", ("abcdefgh12", "abcdefgh")) == HIDDEN


def answer_of(tool: Tool) -> ToolReply:
    return asyncio.run(redacting(tool, (KEY,)).run({}, ""))


def tool_that(outcome: ToolReply | Exception) -> Tool:
    async def run(_: Mapping[str, Any], __: str) -> ToolReply:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return Tool("t", "1", "For tests.", {}, run)


def test_replies():
    data = {"a": [{"b": f"x{KEY}"}, 7, None, True], KEY: 1.5}
    reply = ToolReply(f"is {KEY}!", data, ToolFault(ToolErrorKind.TOOL_ERROR, KEY), "2")
    assert answer_of(tool_that(reply)) == ToolReply(
        f"is {HIDDEN}!",
        {"a": [{"b": f"x{HIDDEN}"}, 7, None, True], HIDDEN: 1.5},
        ToolFault(ToolErrorKind.TOOL_ERROR, HIDDEN),
        "2",
    )


def test_failures():
    with pytest.raises(ToolFailure) as error:
        answer_of(tool_that(ToolFailure(ToolErrorKind.RATE_LIMITED, f"no {KEY}", retry_after_s=3)))
    assert (str(error.value), error.value.kind, error.value.retry_after_s) == (f"no {HIDDEN}", "rate_limited", 3)
    with pytest.raises(ToolFailure) as error:
        answer_of(tool_that(KeyError(KEY)))
    assert (str(error.value), error.value.kind) == (f"t: KeyError: '{HIDDEN}'", ToolErrorKind.INFRA)
    assert error.value.__suppress_context__
    with pytest.raises(KeyError, match="harmless"):
        answer_of(tool_that(KeyError("harmless")))


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


def test_logs_with_their_tracebacks(log: io.StringIO):
    with redacting_logs((KEY,)):
        try:
            raise ValueError(KEY)
        except ValueError:
            logging.getLogger("any").exception("it was %s", KEY)
    said = log.getvalue()
    assert said.startswith(f"ERROR it was {HIDDEN}\nTraceback")
    assert f"ValueError: {HIDDEN}" in said
    assert KEY not in said
    logging.getLogger("any").error("as before")
    assert log.getvalue() == f"{said}ERROR as before\n"


def test_a_provider_that_echoes_the_key_finds_no_ear(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A real adapter process: the key reaches the provider, and is in nothing that the adapter says or writes."""
    key = "serper-0123456789abcdef"
    asked: list[str] = []

    async def echo(request: web.Request) -> web.StreamResponse:
        key = request.headers["X-API-KEY"]
        asked.append(key)
        query = (await request.json())["q"]
        if query == "refuse":
            return web.json_response({"message": "x" * 172 + f" {key} is wrong"}, status=403)
        if query == "confuse":
            return web.json_response({"organic": [{"title": "t", "link": {"key": key}}]})
        spelled = "".join(f"\\u{ord(character):04x}" for character in key)
        found = {"title": f"Key {key}", "link": f"http://a.org/?{key}", "snippet": "SPELLED"}
        return web.Response(text=json.dumps({"organic": [found]}).replace("SPELLED", spelled))

    monkeypatch.setenv("SERPER_API_KEY", key)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("REST_JAX_CACHE", str(tmp_path / "cache"))
    config, log = tmp_path / "tools.yaml", tmp_path / "log" / "tools.log"
    config.write_text(f"tools:\n  - kind: serper\n    url: {serve(echo)}\n    urls: true\n")
    with adapter(ToolsSettings(config=str(config), timeout_s=60), tmp_path / "none.jsonl", log=log) as (url, token):
        with ToolClient(url, ToolsSettings(timeout_s=60, retries=0), token) as client:
            for id, query in enumerate(["find", "refuse", "confuse"]):
                client.submit(id, "search", {"query": query}, "e")
            replies: dict[int, ToolReply] = {}
            while client.in_flight:
                replies.update(client.poll(None))
        bearing = {"Authorization": f"Bearer {token}"}
        asked_for = [
            urllib.request.Request(f"{url}/{path}", headers=bearing) for path in ("healthz", "v1/tools", "metrics")
        ]
        said = [urllib.request.urlopen(request).read().decode() for request in asked_for]
    assert set(asked) == {key}
    assert replies[0].content == f"Key {HIDDEN} (http://a.org/?{HIDDEN}): {HIDDEN}"
    faults = [replies[id].fault for id in (1, 2)]
    assert [fault and fault.kind for fault in faults] == [ToolErrorKind.INFRA, ToolErrorKind.INFRA]
    written = [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert not [text for text in [repr(replies), *said, *written] if key[:12] in text]
