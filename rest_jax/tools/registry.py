"""What a tool is: a name, a version, a schema of its arguments, and a coroutine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from jsonschema.protocols import Validator
from referencing import Registry

from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.tools.protocol import is_too_deep, too_deep

if TYPE_CHECKING:
    from rest_jax.tools.turns import Turns

Schema = Mapping[str, Any]
Run = Callable[[Mapping[str, Any], str], Awaitable[ToolReply]]
"""(arguments, episode) → reply. The episode names the trajectory on whose behalf the call is made."""


class ToolFailure(Exception):
    """A tool's own way to say that a call failed, and of what kind.

    `retry_after_s`: for how many seconds the provider asks to be left alone.
    """

    attempts = 1
    """How often the call was tried."""
    retryable: bool | None = None
    """Whether the same call may do better; None: as its kind may."""

    def __init__(self, kind: ToolErrorKind, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after_s = retry_after_s


class Refusal(ToolFailure):
    """A provider answers nobody here until something is mended; the message says what. No call does better, so the
    service reports it as trouble."""

    retryable = False


@dataclass(frozen=True)
class Tool:
    """A tool that the adapter serves.

    `parameters` is a JSON schema (draft 2020-12) of an object; `run` gets arguments that satisfy it. It returns what
    the model may see and raises `ToolFailure`; any other exception is the adapter's own failure, not the caller's.
    """

    name: str
    version: str
    """Changes whenever the same arguments may give another answer."""
    description: str
    parameters: Schema
    run: Run
    deterministic: bool = True
    """The same arguments always give the same answer."""
    may_be_old: bool = False
    """An answer may be some time old: it is kept for a while. (What a deterministic tool answers is kept for good.)"""
    stateful: bool = False
    """A call changes what later calls of its episode answer: it is never repeated, its answer never cached."""
    provider: str = ""
    """Whose service it uses: tools of one provider share its limits and its circuit breaker. Empty: nobody's."""
    cost: float = 0.0
    """US dollars that one call costs."""
    turns: Turns | None = None
    """Where only so many calls are made at one time: a call's own time begins with its turn. None: no call waits."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What its answers come from (JSON), for people and for whoever compares two adapters."""

    @property
    def is_kept(self) -> bool:
        """An answer stands for that of an equal call, now or later; else each call is asked."""
        return not self.stateful and (self.deterministic or self.may_be_old)

    @cached_property
    def _validator(self) -> Validator:
        return Draft202012Validator(self.parameters, registry=Registry())  # an empty one: nothing is ever fetched

    def check(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """The arguments as `run` gets them: integers as such, also those that were written 2.0.

        Raises ToolFailure (bad_arguments), naming the argument, unless they satisfy the schema; `infra` when the schema
        itself is at fault.
        """
        if is_too_deep(arguments):
            raise _bad(too_deep().message)
        try:
            error = best_match(self._validator.iter_errors(arguments))
        except Exception as wrong:  # a reference to nowhere, a pattern that is none, a circle: whatever others wrote
            message = f"the schema of {self.name} cannot be used ({type(wrong).__name__}: {str(wrong)[:200]})"
            raise ToolFailure(ToolErrorKind.INFRA, message) from wrong
        if error is not None:
            where = "".join(f"[{part!r}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
            raise _bad(f"{where.lstrip('.')}: {error.message}" if where else error.message)
        _check_text(arguments)
        return _with_integers(arguments)

    def described(self) -> dict[str, Any]:
        """The tool in OpenAI's function form, with its version and nature beside it."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {
            "type": "function",
            "function": function,
            "version": self.version,
            "deterministic": self.deterministic,
            "stateful": self.stateful,
            "cost": self.cost,
        }


def _check_text(value: Any) -> None:
    """Lone surrogates pass for text in JSON, but no other program takes them."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _bad(f"{value[:40]!r} is no valid Unicode text") from None
    elif isinstance(value, Mapping):
        for part in (*value.keys(), *value.values()):
            _check_text(part)
    elif isinstance(value, list):
        for part in value:
            _check_text(part)


def _with_integers(value: Any) -> Any:
    """JSON knows one kind of number, and its schemas take 2.0 for an integer; Python does not."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {name: _with_integers(part) for name, part in value.items()}
    return [_with_integers(part) for part in value] if isinstance(value, list) else value


def _bad(message: str) -> ToolFailure:
    return ToolFailure(ToolErrorKind.BAD_ARGUMENTS, message)
