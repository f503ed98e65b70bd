"""Cassettes: what tools answered, kept in a folder, and answered again without them.

    CASSETTE/
      manifest.json       what the tools were (versions, schemas, digests), when they were asked, sha256 of the calls
      calls.jsonl.zst     a line per call: {"key", "tool", "arguments", "content", "data", "error"}, sorted by key; of a
                          stateful tool with its "episode"
      unfinished.jsonl    only while it is recorded: the tools, then calls as they come

Each call stands there once: who asks again while it is recorded gets the first answer, so that a replay, which knows
nothing of time, answers everybody as the recording did. A stateful tool is asked each time, and its call is known by
all that its episode has asked before. Failures of the infrastructure are not recorded.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
from filelock import FileLock, Timeout

from rest_jax.core.canonical import digest, digest_file
from rest_jax.core.effects import ToolErrorKind, ToolFault, ToolReply
from rest_jax.core.errors import UserError
from rest_jax.core.files import append_whole, write_json, written_whole
from rest_jax.tools.protocol import CacheStatus
from rest_jax.tools.registry import Tool, ToolFailure
from rest_jax.tools.service.query import Answer, Query, Trouble

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
CALLS = "calls.jsonl.zst"
UNFINISHED = "unfinished.jsonl"

Row = Mapping[str, Any]
"""A line of `calls.jsonl.zst`."""


@dataclass(frozen=True)
class Cassette:
    """A finished recording."""

    path: Path
    tools: tuple[Row, ...]
    """As `described` by `tool_row`."""
    began: str
    calls: Mapping[str, Row]
    """By key."""


def read_cassette(path: Path) -> Cassette:
    """Read a finished cassette. Raises UserError when it is missing, unfinished, damaged, or of another version."""
    if not (path / MANIFEST).is_file():
        mend = "record again with it to finish it" if (path / UNFINISHED).is_file() else "check the path"
        raise UserError(f"{path}: not a finished cassette (no {MANIFEST}); {mend}")
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if manifest["schema_version"] != SCHEMA_VERSION:
            raise UserError(
                f"{path}: a cassette of schema version {manifest['schema_version']}, this program reads "
                f"{SCHEMA_VERSION}; record it again"
            )
        if digest_file(path / CALLS) != manifest["sha256"]:
            raise UserError(f"{path / CALLS}: not what {MANIFEST} says (sha256); restore it, or record it again")
        return Cassette(path, tuple(manifest["tools"]), manifest["began"], _read_calls(path))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: a damaged cassette ({error}); restore it, or record it again") from error


def _read_calls(path: Path) -> dict[str, Row]:
    with pa.input_stream(path / CALLS, compression="zstd") as file:
        rows = [json.loads(line) for line in file.read().splitlines()]
    return {row["key"]: row for row in rows}


def tool_row(tool: Tool) -> Row:
    """A tool as a manifest names it: all that it is but its code. (Its cost too; a replayed tool costs nothing.)"""
    return {**tool.described(), "provider": tool.provider, "about": dict(tool.about)}


def replayed_tools(cassette: Cassette, trouble: Trouble) -> tuple[Tool, ...]:
    """The recorded tools, for a `Player` to answer for them: what it does not know is a replay_miss."""

    async def miss(tool: str, arguments: Mapping[str, Any]) -> ToolReply:
        message = f"{cassette.path} holds no answer to {tool} {json.dumps(dict(arguments), ensure_ascii=False)[:200]}"
        logger.error("replay miss: %s", message)
        trouble.report(f"{message}; record it again as it is replayed: same questions, samples, seeds and model")
        raise ToolFailure(ToolErrorKind.REPLAY_MISS, message)

    def tool(row: Row) -> Tool:
        function = row["function"]
        name = function["name"]
        return Tool(
            name,
            row["version"],
            function["description"],
            function["parameters"],
            lambda arguments, episode: miss(name, arguments),
            deterministic=row["deterministic"],
            stateful=row["stateful"],
            provider=row["provider"],
            about=row["about"],
        )

    return tuple(tool(row) for row in cassette.tools)


class Player:
    """A `Memory` that knows what a cassette holds, and learns nothing."""

    def __init__(self, cassette: Cassette) -> None:
        self._calls = cassette.calls

    async def recall(self, queries: Sequence[Query]) -> list[Answer | None]:
        return [_recorded(self._calls, query) for query in queries]

    async def keep(self, query: Query, answer: Answer) -> Answer:
        return answer


class Recorder:
    """A `Memory` that writes a cassette; `close` finishes it.

    Raises UserError when the folder holds a recording of other tools, or when another process records there.
    """

    def __init__(
        self,
        path: Path,
        tools: Sequence[Tool],
        clean: Callable[[str], str] = lambda text: text,
        trouble: Trouble | None = None,
    ) -> None:
        """`clean` takes the secrets out of a line of JSON before it is written; `trouble` hears of a full disk."""
        self.path = path
        self._clean = clean
        self._trouble = trouble or Trouble()
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(f"{path}: another process records here; wait for it, or name another folder") from None
        with ExitStack() as held:
            held.callback(lock.release)
            self._tools = tuple(tool_row(tool) for tool in tools)
            self._began = _today()
            self._calls: dict[str, Row] = {}
            self.histories: dict[str, str] = {}
            """By episode, the key of its last call of a stateful tool, as a recorder knew it that was killed."""
            try:
                if (path / UNFINISHED).is_file():
                    self._calls = _read_calls(path) if (path / CALLS).is_file() else {}
                elif (path / MANIFEST).is_file():
                    self._add_to(read_cassette(path))
                self._go_on()
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UserError(f"{path}: cannot be recorded into ({error}); name another folder") from error
            self._held = held.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    async def recall(self, queries: Sequence[Query]) -> list[Answer | None]:
        """What is recorded already. A stateful tool is asked all the same: later calls need its state."""
        return [None if query.tool.stateful else _recorded(self._calls, query) for query in queries]

    async def keep(self, query: Query, answer: Answer) -> Answer:
        """Record an answer, unless an equal call that came in between has one: that stands for both."""
        assert query.key is not None
        if query.key in self._calls and not query.tool.stateful:
            return replace(_answer(self._calls[query.key]), attempts=answer.attempts)
        fault = answer.reply.fault
        row = {
            "key": query.key,
            "tool": query.tool.name,
            "arguments": dict(query.arguments),
            "content": answer.reply.content,
            "data": dict(answer.reply.data),
            "error": None if fault is None else {"kind": fault.kind.value, "message": fault.message},
            **({"episode": query.episode} if query.tool.stateful else {}),
        }
        try:
            self._calls[query.key] = self._append(row)
        except OSError as error:
            message = f"{self.path}: an answer could not be recorded ({error.strerror}); make room"
            raise self._trouble.failure(message) from error
        return answer

    def close(self) -> None:
        """Write the cassette with what was added, sorted: equal recordings are equal files, whatever came first.

        Raises UserError when the disk is full: what was recorded waits in the unfinished file.
        """
        try:
            self._finish()
        except OSError as error:
            mend = "make room, then record with it again"
            raise UserError(f"{self.path}: could not be finished ({error.strerror}); {mend}") from error
        finally:
            self._held.close()

    def _finish(self) -> None:
        with written_whole(self.path / CALLS) as part, pa.output_stream(part, compression="zstd") as file:
            for key in sorted(self._calls):
                file.write(json.dumps(self._calls[key], sort_keys=True).encode() + b"\n")
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "began": self._began,
            "ended": _today(),
            "calls": len(self._calls),
            "sha256": digest_file(self.path / CALLS),
            "tools": self._tools,
        }
        write_json(self.path / MANIFEST, manifest)
        (self.path / UNFINISHED).unlink()

    def _append(self, row: Row) -> Row:
        """Hand a line to the system; returns it as it can be read back."""
        line = self._clean(json.dumps(row, allow_nan=False))
        append_whole(self.path / UNFINISHED, line.encode() + b"\n")
        return json.loads(line)

    def _add_to(self, before: Cassette) -> None:
        self._refuse_others(before.tools)
        self._began, self._calls = before.began, dict(before.calls)

    def _go_on(self) -> None:
        """Take over what a recording left that was killed, even while it was being finished; a last line that the kill
        tore is cut off."""
        whole = 0
        with (self.path / UNFINISHED).open("ab+") as file:
            file.seek(0)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                row = json.loads(line)
                if whole == 0:
                    self._began = row["began"]
                    self._refuse_others(row["tools"])
                else:
                    self._calls[row["key"]] = row
                    if "episode" in row:
                        self.histories[row["episode"]] = row["key"]
                whole += len(line)
            file.truncate(whole)
        if whole == 0:
            self._append({"began": self._began, "tools": self._tools})

    def _refuse_others(self, recorded: Sequence[Row]) -> None:
        if digest(list(recorded)) != digest(list(self._tools)):
            versions = [_versions(recorded), _versions(self._tools)]
            raise UserError(
                f"{self.path}: recorded with other tools ({versions[0]}; now {versions[1]}); record into another folder"
            )


def _recorded(calls: Mapping[str, Row], query: Query) -> Answer | None:
    row = calls.get(query.key or "")
    return None if row is None else _answer(row)


def _answer(row: Row) -> Answer:
    error = row["error"]
    fault = None if error is None else ToolFault(ToolErrorKind(error["kind"]), error["message"])
    return Answer(ToolReply(row["content"], row["data"], fault), CacheStatus.REPLAY, attempts=0)


def _versions(tools: Sequence[Row]) -> str:
    return ", ".join(f"{row['function']['name']} {row['version']}" for row in tools)


def _today() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
