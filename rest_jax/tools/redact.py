"""The adapter's secrets: whose they are, and how they are taken out of whatever leaves it.

A setting never holds a secret. It names an environment variable, in a field called `…_variable`, or several, in one
called `…_variables`: by these names the secrets of any settings are found, whichever family of tools they belong to.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from rest_jax.config.plain import as_plain
from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.core.secrets import LEAST_CHARS, redacted, secret
from rest_jax.tools.registry import Tool, ToolFailure

TOKEN_VARIABLE = "REST_JAX_TOOLS_TOKEN"
"""Environment variable with the adapter's own bearer token, for server and client."""


def own_token() -> str | None:
    """The adapter's own bearer token; None where it has none. Raises UserError for one that is no secret."""
    return secret(TOKEN_VARIABLE) if os.environ.get(TOKEN_VARIABLE, "").strip() else None


def secrets_of(settings: Any) -> tuple[str, ...]:
    """The secrets that settings (a dataclass, or a tuple of them) name, and the adapter's own token, the longest first.

    Those that are not set are left out: whether one must be there is for its user to say.
    """
    variables = {TOKEN_VARIABLE, *_variables(as_plain(settings))}
    values = {os.environ.get(variable, "").strip() for variable in variables}
    return tuple(
        sorted((value for value in values if len(value) >= LEAST_CHARS), key=lambda value: (-len(value), value))
    )


def redacting(tool: Tool, secrets: Sequence[str]) -> Tool:
    """The tool without the secrets in what it answers, and in the messages of its failures."""
    if not secrets:
        return tool

    async def run(arguments: Mapping[str, Any], episode: str) -> ToolReply:
        try:
            return _without(await tool.run(arguments, episode), secrets)
        except ToolFailure as failure:
            failure.args = (redacted(str(failure), secrets),)
            raise
        except Exception as error:
            told = f"{tool.name}: {type(error).__name__}: {error}"
            if (clean := redacted(told, secrets)) == told:
                raise
            raise ToolFailure(ToolErrorKind.INFRA, clean) from None

    return replace(tool, run=run)


@contextmanager
def redacting_logs(secrets: Sequence[str]) -> Iterator[None]:
    """For the length of a block, all that the root logger's handlers write is without secrets, tracebacks included."""
    formatters = [(handler, handler.formatter) for handler in logging.getLogger().handlers]
    for handler, formatter in formatters:
        handler.setFormatter(_Redacting(formatter or logging.Formatter(), secrets))
    try:
        yield
    finally:
        for handler, formatter in formatters:
            handler.setFormatter(formatter)


class _Redacting(logging.Formatter):
    def __init__(self, inner: logging.Formatter, secrets: Sequence[str]) -> None:
        super().__init__()
        self._inner = inner
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        return redacted(self._inner.format(record), self._secrets)


def _without(reply: ToolReply, secrets: Sequence[str]) -> ToolReply:
    fault = reply.fault and replace(reply.fault, message=redacted(reply.fault.message, secrets))
    return replace(reply, content=redacted(reply.content, secrets), data=_cleaned(reply.data, secrets), fault=fault)


def _cleaned(value: Any, secrets: Sequence[str]) -> Any:
    """A JSON value with every text in it redacted."""
    if isinstance(value, str):
        return redacted(value, secrets)
    if isinstance(value, Mapping):
        return {redacted(key, secrets): _cleaned(part, secrets) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(part, secrets) for part in value]
    return value


def _variables(plain: Any) -> Iterator[str]:
    """The environment variables that plain settings name."""
    if isinstance(plain, list):
        for part in plain:
            yield from _variables(part)
    elif isinstance(plain, dict):
        for name, part in plain.items():
            if name.endswith("_variable") and isinstance(part, str):
                yield part
            elif name.endswith("_variables") and isinstance(part, list):
                yield from part
            else:
                yield from _variables(part)
