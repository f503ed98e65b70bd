"""Python functions as tools: their schemas, what they return and raise, and what is said of those that cannot be."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from jsonschema import Draft202012Validator

from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.core.errors import UserError
from rest_jax.tools.adapter import Adapter
from rest_jax.tools.bridges.functions import FunctionsSettings, open_functions
from rest_jax.tools.bridges.signature import NoSchemaError, schema_of, summary_of
from rest_jax.tools.protocol import Call, Result
from rest_jax.tools.registry import Tool, ToolFailure

MODULE = '''
import asyncio, threading
from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.tools.adapter import Adapter
from rest_jax.tools.registry import ToolFailure

VALUE = 3
begun, hold = threading.Event(), threading.Event()

def area(width: float, height: float = 2.0) -> float:
    """The area of a rectangle.

    Args:
        width: How wide, in metres.
        height (float): How high.
    """
    return width * height

async def later(text: str) -> str:
    await asyncio.sleep(0)
    return text[::-1]

def thread() -> dict:
    return {"name": threading.current_thread().name}

def reply() -> ToolReply:
    return ToolReply("seen", {"hidden": 1})

def mistake(kind: str) -> str:
    if kind == "own":
        raise ToolFailure(ToolErrorKind.TOOL_ERROR, "no such page")
    if kind == "exit":
        raise SystemExit(3)
    if kind == "stop":
        next(iter(()))
    raise ValueError("a defect")

def forever() -> str:
    begun.set()
    hold.wait()
    return "late"

def unnamed(*words: str) -> str: ...
def bare(word) -> str: ...
def odd(word: bytes) -> str: ...
def keys(table: dict[int, str]) -> str: ...
def unknown(word: "Nowhere") -> str: ...
'''


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_tools.py").write_text(MODULE)
    (tmp_path / "own_broken.py").write_text("import not_there_at_all\n")
    (tmp_path / "own_failing.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "modules", {k: v for k, v in sys.modules.items() if not k.startswith("own_")})
    return tmp_path


def answer(name: str, arguments: Mapping[str, Any], **settings: Any) -> Result:
    async def work() -> Result:
        async with open_functions(FunctionsSettings((name,), **settings)) as tools:
            return await Adapter(tools, 20).answer(Call(1, tools[0].name, arguments), 20)

    return asyncio.run(work())


def opened(*names: str, **settings: Any) -> tuple[Tool, ...]:
    async def work() -> tuple[Tool, ...]:
        async with open_functions(FunctionsSettings(names, **settings)) as tools:
            return tools

    return asyncio.run(work())


def test_schema_of_every_kind_of_annotation():
    def function(
        text: str,
        how: Literal["fast", "slow", 3],
        many: list[int],
        table: dict[str, float | None],
        anything: Any,
        described: Annotated[bool, "Whether."],
        free: list = [],  # noqa: B006
        maybe: str | None = None,
        *,
        object: dict = {},  # noqa: B006
    ) -> str:
        """What it does.

        More of it.

        Args:
            text: The text, in
                two lines.
            many: Numbers.

        Returns:
            Nothing.
        """
        raise AssertionError

    schema = schema_of(function)
    Draft202012Validator.check_schema(schema)
    assert schema["properties"] == {
        "text": {"description": "The text, in two lines.", "type": "string"},
        "how": {"enum": ["fast", "slow", 3]},
        "many": {"description": "Numbers.", "type": "array", "items": {"type": "integer"}},
        "table": {"type": "object", "additionalProperties": {"anyOf": [{"type": "number"}, {"type": "null"}]}},
        "anything": {},
        "described": {"type": "boolean", "description": "Whether."},
        "free": {"type": "array", "default": []},
        "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "object": {"type": "object", "default": {}},
    }
    assert schema["required"] == ["text", "how", "many", "table", "anything", "described"]
    assert schema["additionalProperties"] is False
    assert summary_of(function) == "What it does.\n\nMore of it."


def test_a_function_answers():
    result = answer("own_tools:area", {"width": 3})
    assert (result.reply.content, result.reply.data) == ("6.0", {"result": 6.0})
    assert answer("own_tools:later", {"text": "abc"}).reply.content == "cba"
    assert answer("own_tools:reply", {}).reply.data == {"hidden": 1}
    assert answer("own_tools:thread", {}).reply.data["result"]["name"] != threading.current_thread().name


def test_the_tool_is_described():
    (tool,) = opened("own_tools:area", deterministic=True)
    assert (tool.name, tool.description) == ("area", "The area of a rectangle.")
    assert tool.parameters["properties"]["width"] == {"description": "How wide, in metres.", "type": "number"}
    assert tool.parameters["properties"]["height"]["description"] == "How high."
    assert (tool.deterministic, tool.stateful) == (True, False)
    with pytest.raises(ToolFailure, match=r"'wide' was unexpected"):
        tool.check({"width": 1, "wide": 2})


def test_the_version_follows_the_source(folder: Path, monkeypatch: pytest.MonkeyPatch):
    before, other = opened("own_tools:area", "own_tools:reply")
    assert opened("own_tools:area")[0].version == before.version != other.version
    (folder / "own_tools_2.py").write_text(MODULE.replace("width * height", "height * width"))
    assert opened("own_tools_2:area")[0].version != before.version


@pytest.mark.parametrize(
    ("kind", "expected", "says"),
    [
        ("own", ToolErrorKind.TOOL_ERROR, "no such page"),
        ("defect", ToolErrorKind.INFRA, "mistake: ValueError: a defect"),
        ("exit", ToolErrorKind.INFRA, "mistake: RuntimeError: SystemExit(3)"),
        ("stop", ToolErrorKind.INFRA, "mistake: RuntimeError: StopIteration()"),
    ],
)
def test_only_a_tool_failure_is_the_agents_own(kind: str, expected: ToolErrorKind, says: str):
    fault = answer("own_tools:mistake", {"kind": kind}).reply.fault
    assert fault is not None
    assert (fault.kind, fault.message) == (expected, says)


def test_a_call_that_hangs_keeps_its_place_until_it_ends_and_blocks_nobody_else():
    async def work() -> None:
        async with open_functions(FunctionsSettings(("own_tools:forever", "own_tools:area"), threads=2)) as tools:
            forever, area = tools
            adapter = Adapter(tools, 20)
            module = sys.modules["own_tools"]
            hanging = asyncio.create_task(forever.run({}, "e"))
            await asyncio.to_thread(module.begun.wait)
            hanging.cancel()
            with pytest.raises(asyncio.CancelledError):
                await hanging
            assert (await area.run({"width": 1.0}, "e")).content == "2.0"
            second = asyncio.create_task(forever.run({}, "e"))  # takes the other place
            await asyncio.sleep(0)
            late = await adapter.answer(Call(1, "area", {"width": 1.0}), 0.05)
            assert late.reply.fault is not None
            assert late.reply.fault.kind is ToolErrorKind.TIMEOUT
            module.hold.set()
            assert (await second).content == "late"
            assert (await area.run({"width": 1.0}, "e")).content == "2.0"

    asyncio.run(work())


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("own_tools:none", r"own_tools:none: module 'own_tools' has no attribute 'none'; correct the name"),
        ("own_tools:VALUE", r"a int is no function"),
        ("own_nowhere:f", r"there is no module own_nowhere; install it, or put its folder on PYTHONPATH"),
        ("own_broken:f", r"own_broken needs not_there_at_all, which is not there"),
        ("own_failing:f", r"its import fails \(ZeroDivisionError: division by zero\)"),
        ("nothing", r"no entry point of rest_jax\.tools has this name \(.*\); write module:function"),
        (":f", r"its import fails"),
        ("own_tools:unnamed", r"cannot be a tool: its parameter 'words' has no name"),
        ("own_tools:bare", r"its parameter 'word' has no annotation; write word: str"),
        ("own_tools:odd", r"'word' is annotated <class 'bytes'>"),
        ("own_tools:keys", r"'table' is annotated dict\[int, str\]"),
        ("own_tools:unknown", r"name 'Nowhere' is not defined"),
    ],
)
def test_what_cannot_be_a_tool_is_one_line_for_the_user(name: str, says: str):
    with pytest.raises(UserError, match=says) as error:
        opened(name)
    assert "\n" not in str(error.value)


def test_a_function_by_the_name_of_its_entry_point(folder: Path):
    package = folder / "own_package-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: own-package\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[rest_jax.tools]\nrectangle = own_tools:area\n")
    assert [tool.name for tool in opened("rectangle")] == ["rectangle"]
    assert answer("rectangle", {"width": 2}).reply == ToolReply(
        "4.0", {"result": 4.0}, None, opened("rectangle")[0].version
    )


def test_no_schema_for_a_literal_that_json_cannot_say():
    def function(what: Literal[b"x"]) -> str:
        raise AssertionError

    with pytest.raises(NoSchemaError, match="'what' is annotated"):
        schema_of(function)
