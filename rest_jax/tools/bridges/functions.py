"""Python functions as tools: by `module:function`, or by the name of an entry point."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from rest_jax.config.limits import Positive, Some
from rest_jax.core.effects import ToolReply
from rest_jax.core.errors import UserError
from rest_jax.tools.bridges.signature import NoSchemaError, schema_of, summary_of
from rest_jax.tools.bridges.threads import Threads
from rest_jax.tools.registry import Tool
from rest_jax.tools.turns import Turns

GROUP = "rest_jax.tools"
"""The group of entry points under which a package offers tools."""


@dataclass(frozen=True)
class FunctionsSettings:
    """Python functions as tools. They are the user's own code: they run in the adapter, unsandboxed, with all that
    it may do."""

    functions: Some[str]
    """Each `module:function`, or the name of an entry point of the group rest_jax.tools."""
    deterministic: bool = False
    """The same arguments always give the same answer, so that it may be kept for ever."""
    stateful: bool = False
    """A call changes what later ones answer: it is never repeated, its answer never cached."""
    threads: Positive = 32
    """Calls of functions that are not coroutines run in threads, at most so many at once."""


@contextlib.asynccontextmanager
async def open_functions(settings: FunctionsSettings) -> AsyncIterator[tuple[Tool, ...]]:
    """A tool for each function, under the function's own name or that of its entry point.

    Its annotations become the schema (see `schema_of`), its docstring the description. It returns a str (the
    content), a ToolReply, or what JSON can say: content is then its JSON, data {"result": it}. What is the agent's own
    mistake it tells by raising ToolFailure; any other exception is the adapter's failure and never held against the
    agent. Raises UserError for a function that is not there or whose signature no schema describes.
    """
    threads, turns = Threads(settings.threads), Turns(settings.threads)
    yield tuple(_tool(named, settings, threads, turns) for named in settings.functions)


def _tool(named: str, settings: FunctionsSettings, threads: Threads, turns: Turns) -> Tool:
    name, function = _found(named)
    try:
        parameters = schema_of(function)
    except NoSchemaError as error:
        raise UserError(f"{named} cannot be a tool: {error}") from error

    is_coroutine = inspect.iscoroutinefunction(function)

    async def run(arguments: Mapping[str, Any], _: str) -> ToolReply:
        call = functools.partial(function, **arguments)
        return _reply(await (_coroutine(call) if is_coroutine else threads.run(call)))

    return Tool(
        name=name,
        version=_version(function),
        description=summary_of(function),
        parameters=parameters,
        run=run,
        deterministic=settings.deterministic,
        stateful=settings.stateful,
        turns=None if is_coroutine else turns,
    )


async def _coroutine(call: Callable[[], Awaitable[Any]]) -> Any:
    return await call()


def _reply(result: Any) -> ToolReply:
    if isinstance(result, ToolReply):
        return result
    if isinstance(result, str):
        return ToolReply(result)
    text = json.dumps(result, ensure_ascii=False, allow_nan=False)
    return ToolReply(text, {"result": json.loads(text)})


def _version(function: Callable[..., Any]) -> str:
    """Another one whenever the function's own source is; what it calls is not looked at."""
    try:
        source = inspect.getsource(inspect.unwrap(function))
    except (OSError, TypeError):  # compiled, or typed in
        return "1"
    return f"1+{hashlib.sha256(source.encode()).hexdigest()[:12]}"


def _found(named: str) -> tuple[str, Callable[..., Any]]:
    """The tool's name and its function. Raises UserError."""
    module, colon, attribute = named.partition(":")
    if colon:
        return attribute.rpartition(".")[2], _loaded(named, module, attribute)
    offered = entry_points(group=GROUP)
    if named not in offered.names:
        known = ", ".join(sorted(offered.names)) or "none installed"
        raise UserError(f"{named}: no entry point of {GROUP} has this name ({known}); write module:function")
    return named, _loaded(named, offered[named].module, offered[named].attr)


def _loaded(named: str, module: str, attribute: str) -> Callable[..., Any]:
    try:
        function = functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            mend = f"there is no module {error.name}; install it, or put its folder on PYTHONPATH"
        else:
            mend = f"{module} needs {error.name}, which is not there; install it"
        raise UserError(f"{named}: {mend}") from error
    except AttributeError as error:
        raise UserError(f"{named}: {error}; correct the name") from error
    except Exception as error:
        raise UserError(f"{named}: its import fails ({type(error).__name__}: {error}); mend {module}") from error
    if not inspect.isfunction(function):
        raise UserError(f"{named}: a {type(function).__name__} is no function; name one written with def or async def")
    return function
