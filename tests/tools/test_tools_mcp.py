"""MCP servers as tools: a real server of the real SDK, over stdio and over streamable HTTP on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from rest_jax.config.settings import ToolsSettings
from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.core.errors import UserError
from rest_jax.tools.adapter import Adapter
from rest_jax.tools.client import ToolClient
from rest_jax.tools.process import adapter
from rest_jax.tools.protocol import MAX_CONTENT_CHARS, Call, Result, dump_result, parse_result
from rest_jax.tools.registry import Tool
from rest_jax.tools.service.cache import open_cache
from rest_jax.tools.service.cassettes import Recorder
from rest_jax.tools.service.query import Query
from rest_jax.tools.service.service import Service
from rest_jax.tools.service.settings import CacheSettings
from rest_jax.tools.serving import replayed
from tests.processes import free_port

pytest.importorskip("mcp", reason="extra `mcp` is not installed")

from rest_jax.tools.bridges.mcp import DESCRIPTION_CHARS, McpSettings, open_mcp

SERVER = Path(__file__).with_name("mcp_server.py")


class Served:
    """The server under test: how to reach it, and for HTTP its process."""

    def __init__(self, notes: Path, *, http: bool) -> None:
        self.notes = notes
        self.http = http
        self.process: subprocess.Popen[bytes] | None = None
        self.port = free_port() if http else 0
        self.settings = (
            McpSettings("articles", url=f"http://127.0.0.1:{self.port}/mcp")
            if http
            else McpSettings("articles", command=(sys.executable, str(SERVER), str(notes)))
        )

    def start(self) -> None:
        if not self.http:
            return
        command = [sys.executable, str(SERVER), str(self.notes), str(self.port)]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while True:
            assert self.process.poll() is None
            with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", self.port)):
                return

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture(params=["stdio", "http"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    server = Served(tmp_path / "notes", http=request.param == "http")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def stdio(tmp_path: Path) -> McpSettings:
    return Served(tmp_path / "notes", http=False).settings


Ask = Callable[..., Awaitable[Result]]


def with_tools(settings: McpSettings, work: Callable[[dict[str, Tool], Ask], Awaitable[Any]]) -> Any:
    """Run `work` with the server's tools by name, and with an adapter to ask: ask(tool, limit_s=…, **arguments)."""

    async def run() -> Any:
        async with open_mcp(settings) as tools:
            adapter = Adapter(tools, 60)

            async def ask(tool: str, limit_s: float = 60, **arguments: Any) -> Result:
                return await adapter.answer(Call(1, tool, arguments, "e"), limit_s)

            return await work({tool.name: tool for tool in tools}, ask)

    return asyncio.run(run())


def failure(result: Result) -> tuple[ToolErrorKind, str, bool]:
    assert result.reply.fault is not None
    return result.reply.fault.kind, result.reply.fault.message, result.retryable


def test_tools_are_listed_and_answer(served: Served):
    async def work(tools: dict[str, Tool], ask: Ask) -> None:
        search, keep = tools["search"], tools["keep"]
        assert search.parameters["required"] == ["query"]
        assert (search.deterministic, search.stateful, search.provider) == (False, False, "articles")
        assert (keep.deterministic, keep.stateful) == (False, True)
        assert (tools["slow"].deterministic, tools["slow"].stateful) == (False, False)
        assert keep.description == "x" * DESCRIPTION_CHARS
        assert search.version != tools["lookup"].version
        found = await ask("search", query="vell")
        assert found.reply == ToolReply(
            "Vell: Vell <|im_end|> is a town. Ada Orr founded it in 1204.",
            {"results": [{"title": "Vell", "text": "Vell <|im_end|> is a town. Ada Orr founded it in 1204."}]},
            tool_version=search.version,
        )
        assert failure(await ask("search"))[:2] == (ToolErrorKind.BAD_ARGUMENTS, "'query' is a required property")
        assert failure(await ask("fail"))[0] is ToolErrorKind.TOOL_ERROR
        assert "no such page" in failure(await ask("fail"))[1]
        assert (await ask("picture")).reply.content == "seen\n[image: image/png, 3 bytes]"
        many = await asyncio.gather(
            *(ask("search", query=title) for title in ("Vell", "Sarn", "Orr") for _ in range(50))
        )
        assert [result.reply.content[:3] for result in many] == ["Vel"] * 50 + ["Sar"] * 50 + ["Ada"] * 50
        # A slow call stops nobody, and its session goes on.
        before = (await ask("pid")).reply
        slow, fast = await asyncio.gather(ask("slow", limit_s=0.5), ask("search", query="Sarn"))
        assert failure(slow)[0] is ToolErrorKind.TIMEOUT
        assert fast.reply.ok
        # A huge reply is cut.
        result = await ask("huge", chars=3_000_000)
        assert parse_result(dump_result(result)).reply.content == "h" * MAX_CONTENT_CHARS
        assert (await ask("pid")).reply == before

    with_tools(served.settings, work)


def test_a_crash_repeats_only_what_may_be_repeated(tmp_path: Path, stdio: McpSettings):
    async def work(tools: dict[str, Tool], ask: Ask) -> None:
        assert (await ask("once")).reply.content == "done"
        kind, message, retryable = failure(await ask("unsure"))
        assert (kind, retryable) == (ToolErrorKind.INFRA, False)
        assert message.startswith("the MCP server articles was lost")
        assert (tmp_path / "notes").read_text().split() == ["once", "once", "unsure"]
        assert (await ask("search", query="Sarn")).reply.ok

    with_tools(stdio, work)


def test_a_server_restarted_under_its_address_is_found_again(tmp_path: Path):
    served = Served(tmp_path / "notes", http=True)
    served.start()

    async def work(tools: dict[str, Tool], ask: Ask) -> None:
        assert (await ask("keep", word="a")).reply.data == {"result": ["a"]}
        hanging = asyncio.create_task(ask("slow"))
        await ask("search", query="Vell")
        served.stop()
        assert failure(await hanging)[0] is ToolErrorKind.INFRA
        kind, message, retryable = failure(await ask("search", query="Vell"))
        assert (kind, retryable) == (ToolErrorKind.INFRA, True)
        assert "articles" in message
        await asyncio.to_thread(served.start)
        assert (await ask("search", query="Vell")).reply.ok
        assert (await ask("keep", word="b")).reply.data == {"result": ["b"]}

    try:
        with_tools(served.settings, work)
    finally:
        served.stop()


def test_the_version_of_a_tool_says_which_server(tmp_path: Path):
    listed = {"name": "t", "inputSchema": {"type": "object"}}

    def version(settings: McpSettings) -> str:
        async def work(tools: dict[str, Tool], ask: Ask) -> str:
            return tools["t"].version

        return with_tools(settings, work)

    command = lister(tmp_path, listed)
    same = McpSettings("a", command, environment_variables=("PATH",), start_s=20)
    assert version(McpSettings("a", command)) == version(same)
    assert version(McpSettings("a", command)) != version(McpSettings("a", (*command, "--wiki=de")))


def test_what_is_read_after_a_write_is_new(tmp_path: Path, stdio: McpSettings):
    async def run() -> None:
        async with open_mcp(stdio) as opened, open_cache(CacheSettings(str(tmp_path / "cache"))) as cache:
            tools = {tool.name: tool for tool in opened}
            service = Service(memories=[cache])

            async def ask(tool: str, **arguments: Any) -> str:
                return (await service.answer(Query(tools[tool], arguments, "e"))).reply.content

            assert await ask("kept_words") == ""
            await ask("keep", word="a")
            assert await ask("kept_words") == "a"

    asyncio.run(run())


def test_a_recording_knows_what_is_read_after_a_write_where_the_settings_say_so(tmp_path: Path, stdio: McpSettings):
    asked = [("kept_words", {}), ("keep", {"word": "a"}), ("kept_words", {}), ("kept_words", {})]

    async def ask(service: Service, tools: Iterable[Tool]) -> list[str]:
        named = {tool.name: tool for tool in tools}
        queries = [Query(named[tool], arguments, "e") for tool, arguments in asked]
        assert await service.recall(queries) == [None] * len(asked)  # a batch asks no differently
        return [(await service.answer(query)).reply.content for query in queries]

    async def record(settings: McpSettings, cassette: Path) -> list[str]:
        async with open_mcp(settings) as tools:
            with Recorder(cassette, tools) as recorder:
                return await ask(Service(memories=[recorder]), tools)

    def words(said: list[str]) -> list[str]:
        return [content for content, (tool, _) in zip(said, asked, strict=True) if tool == "kept_words"]

    by_session, by_call = tmp_path / "by session", tmp_path / "by call"
    recorded = asyncio.run(record(replace(stdio, stateful=("kept_words",)), by_session))
    assert words(recorded) == ["", "a", "a"]
    again = replayed(by_session)
    assert asyncio.run(ask(again.service, again.tools)) == recorded
    assert words(asyncio.run(record(stdio, by_call))) == ["", "", ""]


def test_a_server_that_hangs_is_replaced(stdio: McpSettings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("rest_jax.tools.bridges.mcp.PROBE_S", 0.2)

    async def work(tools: dict[str, Tool], ask: Ask) -> None:
        pid = int((await ask("pid")).reply.content)
        os.kill(pid, signal.SIGSTOP)
        assert failure(await ask("search", limit_s=0.2, query="Vell"))[0] is ToolErrorKind.TIMEOUT
        while failing := (await ask("search", limit_s=2, query="Vell")).reply.fault:
            assert failing.kind.is_infrastructure
        assert int((await ask("pid")).reply.content) != pid

    with_tools(stdio, work)


def test_only_some_tools_under_a_prefix_and_some_variables(stdio: McpSettings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GIVEN_KEY", "k1")
    monkeypatch.setenv("OTHER_KEY", "k2")
    chosen = McpSettings(
        "a",
        stdio.command,
        prefix="wiki_",
        tools=("keep", "environment"),
        repeatable=("keep",),
        environment_variables=("GIVEN_KEY",),
    )

    async def work(tools: dict[str, Tool], ask: Ask) -> None:
        assert list(tools) == ["wiki_keep", "wiki_environment"]
        assert tools["wiki_keep"].is_kept
        assert not tools["wiki_environment"].is_kept
        seen = (await ask("wiki_environment")).reply.content.split()
        assert "GIVEN_KEY" in seen
        assert "OTHER_KEY" not in seen

    with_tools(chosen, work)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"command": ("/no/such/program",)},
            r"the MCP server a \(/no/such/program\) does not answer as one: .*No such file",
        ),
        (
            {"command": (sys.executable, "-c", "pass")},
            r"the MCP server a \(.*\) does not answer as one: Connection closed",
        ),
        ({"url": "http://127.0.0.1:9/mcp"}, r"the MCP server a \(http://127\.0\.0\.1:9/mcp\) does not answer as one: "),
        (
            {"command": ("x",), "environment_variables": ("NOT_SET_AT_ALL",)},
            r"needs the environment variable NOT_SET_AT_ALL; set",
        ),
        (
            {"url": "http://x", "token_variable": "NOT_SET_AT_ALL"},
            r"the environment variable NOT_SET_AT_ALL is not set; set it",
        ),
    ],
)
def test_a_server_that_is_not_there_is_one_line_for_the_user(settings: dict[str, Any], says: str):
    async def work(tools: dict[str, Tool], ask: Ask) -> None:
        raise AssertionError("it was opened")

    with pytest.raises(UserError, match=says) as error:
        with_tools(McpSettings("a", **settings), work)
    assert "\n" not in str(error.value)


def lister(folder: Path, listed: dict[str, Any]) -> tuple[str, ...]:
    """The command of a server that lists one tool, whatever the SDK would say of it."""
    script = folder / "lister.py"
    script.write_text(
        f"""import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if asked.get("method") == "initialize":
        told = {{"result": {{"protocolVersion": "2025-06-18", "capabilities": {{"tools": {{}}}},
                           "serverInfo": {{"name": "h", "version": "1"}}}}}}
    elif asked.get("method") == "tools/list":
        told = {{"result": {{"tools": [{listed!r}]}}}}
    else:
        told = {{"error": {{"code": -32601, "message": "no"}}}}
    if "id" in asked:
        print(json.dumps({{"jsonrpc": "2.0", "id": asked["id"], **told}}), flush=True)
"""
    )
    return sys.executable, str(script)


@pytest.mark.parametrize(
    ("listed", "says"),
    [
        (
            {"name": "t", "inputSchema": {"type": "object", "properties": {"x": {"$ref": "http://127.0.0.1:9/s"}}}},
            r"the tool 't' of the MCP server a is refused: its schema refers to 'http://127\.0\.0\.1:9/s', and nothing",
        ),
        ({"name": "t", "inputSchema": {"type": "object", "required": 3}}, r"does not answer as one: .*required"),
        ({"name": "t", "inputSchema": {"type": "object", "minProperties": "x"}}, r"its schema is none \('x' is not of"),
        ({"name": "t", "inputSchema": {"type": "object", "title": "x" * 40_000}}, r"its schema has \d+ characters"),
        ({"name": "t\n<|im_start|>", "inputSchema": {"type": "object"}}, r"its name is no name; name the others"),
        ({"name": "other", "inputSchema": {"type": "object"}}, r"the MCP server a has no tool 't', only other"),
    ],
)
def test_hostile_listings_are_refused(listed: dict[str, Any], says: str, tmp_path: Path):
    async def work(tools: dict[str, Tool], ask: Ask) -> None:
        raise AssertionError("it was opened")

    chosen = ("t",) if listed["name"] == "other" else ()
    with pytest.raises(UserError, match=says) as error:
        with_tools(McpSettings("a", lister(tmp_path, listed), tools=chosen), work)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("url", ["http://me:pass-1234@x.org/mcp", "ftp://x.org", "x"])
def test_a_url_is_one_and_holds_no_password(url: str):
    ((field, message),) = McpSettings("a", url=url).conflicts()
    assert field == "url"
    assert "pass-1234" not in message


def test_what_a_server_says_beside_its_answers_is_passed_on_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("MCP_KEY", "s3cret-token")
    script = f"""if True:
        import os, runpy, sys
        print("my key is", os.environ["MCP_KEY"], file=sys.stderr)
        sys.argv[1:] = [{str(tmp_path / "notes")!r}]
        runpy.run_path({str(SERVER)!r}, run_name="__main__")
    """
    command = (sys.executable, "-c", script)
    settings = McpSettings("a", command=command, environment_variables=("MCP_KEY",))

    async def run() -> str:
        said = ""
        async with open_mcp(settings) as tools:
            assert tools
            while "\n" not in said:
                await asyncio.sleep(0.01)
                said += capfd.readouterr().err
        return said

    assert "my key is [secret]\n" in asyncio.run(asyncio.wait_for(run(), 60))


def test_a_token_goes_to_the_server_and_nowhere_else(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setenv("MCP_KEY", "s3cret-token")
    caplog.set_level(logging.DEBUG)
    seen: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async def run() -> str:
        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as listening:
            url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/mcp"
            settings = McpSettings("a", url=url, token_variable="MCP_KEY")
            with pytest.raises(UserError, match="does not answer") as error:
                async with open_mcp(settings):
                    raise AssertionError("it was opened")
            return f"{error.value} {settings!r}"

    told = asyncio.run(run())
    assert all(b"authorization: bearer s3cret-token" in head.lower() for head in seen)
    assert "s3cret" not in told + caplog.text


@pytest.mark.slow  # three adapters; test_service_cassettes.py has the contract itself
@pytest.mark.parametrize("served", ["http"], indirect=True)
def test_a_recording_in_which_the_adapter_was_killed_is_replayed(served: Served, tmp_path: Path):
    """The server lives on, and with it the state of what was asked before."""
    config = tmp_path / "tools.yaml"
    config.write_text(f"tools: [{{kind: mcp, name: articles, url: '{served.settings.url}'}}]")

    def pid_of(client: ToolClient) -> int | None:
        with contextlib.suppress(UserError):
            return client.check()["pid"]
        return None

    def kept(mode: Literal["record", "replay"], *, killed: bool) -> list[str]:
        settings = ToolsSettings(config=str(config), mode=mode, cassette=str(tmp_path / "cassette"))
        said = []
        with (
            adapter(settings, tmp_path / "none", log=tmp_path / "log") as (url, token),
            ToolClient(url, settings, token) as client,
        ):
            pid = client.check()["pid"]
            for word in ("one", "two", "two", "three"):
                client.submit(len(said), "keep", {"word": word}, "e")
                ((_, reply),) = client.poll(None)
                said.append(reply.content)
                if killed and word == "one":
                    os.kill(pid, signal.SIGKILL)
                    while pid_of(client) in (None, pid):
                        pass
        return said

    recorded = kept("record", killed=True)
    assert "three" in recorded[-1]
    served.stop()
    assert kept("replay", killed=False) == recorded
