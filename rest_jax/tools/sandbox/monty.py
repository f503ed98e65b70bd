"""Monty, a Python interpreter of its own in Rust: it has no files, no network, no environment and no processes at all.

The one file that knows pydantic-monty (extra `python`).
"""

from __future__ import annotations

import asyncio
import io
import tokenize
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from time import perf_counter
from typing import Any

from rest_jax.core.effects import ToolErrorKind
from rest_jax.tools.registry import ToolFailure
from rest_jax.tools.sandbox.ran import Ran, Status, Tier, Unavailable
from rest_jax.tools.sandbox.settings import PythonSettings

GRACE_S = 1.0
"""How much later than its time limit a worker that does not stop by itself is killed."""

DEPTH = 500
"""The deepest nesting of calls."""

FRAMES = 8
"""The innermost calls that a traceback shows."""

INSTALL = "pip install 'rest_jax[python]'"

IGNORED = (tokenize.NL, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)

DESCRIBES = (
    "It is a small Python for calculations: no yield, del, class inheritance, input or files; of modules only parts of "
    "math, re, json, datetime, decimal, random, itertools, functools, collections, dataclasses, typing."
)

SHOW = """
def __show(value, print=print, repr=repr):
    if value is not None:
        print(repr(value))
"""


@asynccontextmanager
async def open_monty(settings: PythonSettings) -> AsyncIterator[Tier]:
    """A pool of workers, one for each program that runs at once. Raises Unavailable without pydantic-monty."""
    try:
        import pydantic_monty as monty
    except ImportError as error:
        raise Unavailable(f"pydantic-monty is not installed ({error})", INSTALL) from None

    async def run(code: str, timeout_s: float) -> Ran:
        limits = monty.ResourceLimits(
            max_feed_duration_secs=timeout_s,
            max_total_sleep_secs=timeout_s,
            max_memory=settings.memory_bytes,
            max_recursion_depth=DEPTH,
        )
        shown, shift = await asyncio.to_thread(showing_last, code)  # a third of a second for what is nothing but tokens
        began = perf_counter()
        status: Status = "ok"
        output = _Output(settings.output_bytes)
        try:
            async with output.bounded(), pool.checkout(limits=limits, assert_message_annotations=False) as session:
                await session.feed_run(SHOW)
                try:
                    await session.feed_run(shown, print_callback=output)
                except monty.MontySyntaxError as error:
                    if any(frame.function_name for frame in error.traceback()):
                        raise  # of a string that the program evaluates
                    shift = 0
                    await session.feed_run(f"{code}\nNone", print_callback=output)
        except (monty.MontySyntaxError, monty.MontyRuntimeError) as error:
            status = _status(error.exception())
            output.add("stderr", _traceback(error, code, shift))
        except monty.MontyCrashedError as error:
            if not error.timed_out:
                raise ToolFailure(ToolErrorKind.INFRA, f"the sandbox broke ({error})") from error
            status = "timeout"
        if output.is_full:
            status = "output"
        return Ran(status, output.text("stdout"), output.text("stderr"), perf_counter() - began)

    async with AsyncExitStack() as stack:
        try:
            pool = monty.AsyncMonty(max_processes=settings.concurrent, request_timeout=settings.timeout_s + 2 * GRACE_S)
            await stack.enter_async_context(pool)
        except (OSError, RuntimeError) as error:
            raise Unavailable(f"the worker of pydantic-monty does not start ({error})", INSTALL) from None
        yield Tier("monty", monty.__version__, DESCRIBES, run)


def showing_last(code: str) -> tuple[str, int]:
    """The code with its last statement shown, if it is an expression, and the line after which its lines are one more.

    What follows the statement's beginning is wrapped as it stands, so of anything but an expression this makes a syntax
    error, which is found before anything runs. (Parsing it here could overflow the adapter's own stack.)
    """
    start = _last_statement(code)
    if start is None:
        return f"{code}\nNone", 0
    row, column = start
    at = sum(len(line) + 1 for line in code.split("\n")[: row - 1]) + column
    last = code[at:].rstrip("; \n")
    return f"{code[:at]}__show((\n{last}\n))", row


def _last_statement(code: str) -> tuple[int, int] | None:
    """Where the last statement outside any block begins: (row from 1, column from 0)."""
    start, depth, is_new_line, is_new, is_outer = None, 0, True, True, True
    try:
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if token.type == tokenize.ERRORTOKEN:
                return None  # Python 3.11 would look for the end of an unclosed string again after each of its quotes
            if token.type in IGNORED:
                continue
            if token.type == tokenize.NEWLINE or (token.string == ";" and not depth):
                is_new, is_new_line = True, token.type == tokenize.NEWLINE
                continue
            if is_new:
                is_outer = token.start[1] == 0 if is_new_line else is_outer
                start, is_new = token.start if is_outer else start, False
            if token.type == tokenize.OP:
                depth += (token.string in "([{") - (token.string in ")]}")
    except (tokenize.TokenError, SyntaxError):
        return None
    return start


def _status(error: BaseException) -> Status:
    if isinstance(error, TimeoutError):
        return "timeout"
    return "memory" if isinstance(error, MemoryError) else "error"


def _traceback(error: Any, code: str, shift: int) -> str:
    """As Python shows it, of the innermost frames; lines after `shift` are one less than the worker counted."""
    lines = code.split("\n")
    shown = []
    for frame in error.traceback():
        name, line, text = frame.filename, frame.line, frame.source_line or ""
        if name.startswith("<python-input") and frame.function_name != "__show":
            name, line = "<code>", min(line - (0 < shift < line), len(lines))
            text = lines[line - 1]
        where = f", in {frame.function_name}" if frame.function_name else ""
        shown.append(f'  File "{name}", line {line}{where}\n    {text.strip()}\n')
    begins = "Traceback (most recent call last):\n" if any(", in " in frame for frame in shown) else ""
    return f"{begins}{''.join(shown[-FRAMES:])}{error.display('type-msg')}\n"


class _Output:
    """What a program printed, by stream, up to a number of characters; `bounded` ends what prints more."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._parts: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._end: Callable[[], object] = lambda: None

    @property
    def is_full(self) -> bool:
        return self._left < 0

    @asynccontextmanager
    async def bounded(self) -> AsyncIterator[None]:
        """The worker is given up when the output is full: by itself it would print on to the end of its time."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as limit:
                self._end = lambda: loop.call_soon_threadsafe(limit.reschedule, 0.0)
                yield
        except TimeoutError:
            if not self.is_full:
                raise

    def __call__(self, stream: str, text: str) -> None:
        if not self.is_full:
            self.add(stream, text[: self._left])
            self._left -= len(text)
            if self.is_full:
                self._end()

    def add(self, stream: str, text: str) -> None:
        self._parts[stream].append(text)

    def text(self, stream: str) -> str:
        return "".join(self._parts[stream])
