"""Kinds of tools.yaml that need an extra, or fields that go together: each refusal says where it stands."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.core.errors import UserError
from rest_jax.tools.adapter import Adapter
from rest_jax.tools.bridges.functions import FunctionsSettings
from rest_jax.tools.environments import games
from rest_jax.tools.protocol import Call
from rest_jax.tools.registry import Tool
from rest_jax.tools.settings import open_tools, read_settings


def written(folder: Path, text: str) -> Path:
    path = folder / "tools.yaml"
    path.write_text(text)
    return path


def test_an_extra_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "mcp", None)
    monkeypatch.delitem(sys.modules, "rest_jax.tools.bridges.mcp", raising=False)
    path = written(tmp_path, "tools:\n  - kind: mcp\n    name: a\n    command: [x]\n")
    says = r"tools\.yaml:2:11: kind mcp: mcp is not installed; pip install 'rest_jax\[mcp\]'"
    with pytest.raises(UserError, match=says):
        read_settings(path)


def test_textworld_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def none(name: str) -> str:
        raise games.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(games.importlib.metadata, "version", none)
    settings = read_settings(written(tmp_path, "tools: [{kind: textworld}]\n"))

    async def work() -> None:
        async with open_tools(settings):
            raise AssertionError("it was opened")

    with pytest.raises(UserError, match=r"textworld is not installed; pip install 'rest_jax\[textworld\]'"):
        asyncio.run(work())


def test_a_server_has_a_command_or_a_url(tmp_path: Path):
    pytest.importorskip("mcp", reason="extra `mcp` is not installed")
    for entry in ("{kind: mcp, name: a}", "{kind: mcp, name: a, command: [x], url: 'http://x'}"):
        path = written(tmp_path, f"tools: [{entry}]\n")
        with pytest.raises(UserError, match=r"tools\.yaml:1:\d+: tools\.0\.command: a server has either a command"):
            read_settings(path)


def test_functions_are_read(tmp_path: Path):
    path = written(tmp_path, "tools: [{kind: functions, functions: ['json:dumps'], threads: 2}]\n")
    assert read_settings(path).tools == (FunctionsSettings(("json:dumps",), threads=2),)
    with pytest.raises(UserError, match=r"tools\.0\.functions: expected 1 or more entries"):
        read_settings(written(tmp_path, "tools: [{kind: functions, functions: []}]\n"))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"$ref": "http://127.0.0.1:{port}/schema.json"}, "Unresolvable"),
        ({"$ref": "#/$defs/missing"}, "PointerToNowhere"),
        ({"$ref": "#/properties/x"}, "RecursionError"),
        ({"pattern": "("}, "error"),
    ],
)
def test_a_schema_that_is_wrong_in_itself_is_no_fault_of_the_agent_and_fetches_nothing(
    wrong: dict[str, str], says: str
):
    async def run(arguments: Mapping[str, Any], episode: str) -> ToolReply:
        raise AssertionError("it was called")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        port = str(listening.getsockname()[1])
        property = {key: value.replace("{port}", port) for key, value in wrong.items()}
        tool = Tool("t", "1", "", {"type": "object", "properties": {"x": property}}, run)
        fault = asyncio.run(Adapter([tool], 20).answer(Call(1, "t", {"x": "y"}), 20)).reply.fault
        assert fault is not None
        assert (fault.kind, says in fault.message) == (ToolErrorKind.INFRA, True), fault.message
        with pytest.raises(BlockingIOError):
            listening.accept()
