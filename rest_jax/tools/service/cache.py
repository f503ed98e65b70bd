"""Answers kept on disk: SQLite with a write-ahead log, shared by whoever uses the same file.

Whatever goes wrong with the file (full disk, damage, no permission) turns the cache off with one warning; calls go on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from rest_jax.core.cache import cache_folder
from rest_jax.core.effects import ToolReply
from rest_jax.tools.protocol import CacheStatus
from rest_jax.tools.registry import Tool
from rest_jax.tools.service.query import Answer, Query
from rest_jax.tools.service.settings import CacheSettings

logger = logging.getLogger(__name__)

T = TypeVar("T")

Dated = tuple[str, float]
"""An answer as JSON, and the date (in seconds) when it was given."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, reply TEXT NOT NULL, at REAL NOT NULL, used INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS by_use ON answers (used);
"""
LOCKED_S = 5.0
"""How long another process may hold the file."""


@asynccontextmanager
async def open_cache(settings: CacheSettings, now: Callable[[], float] = time.time) -> AsyncIterator[Cache]:
    """The cache for the length of a block, which ends when all is written. `now` gives the date, in seconds."""
    cache = Cache(settings, now)
    try:
        yield cache
    finally:
        await cache.close()


class Cache:
    """A `Memory`. One thread of its own does all that touches the disk."""

    def __init__(self, settings: CacheSettings, now: Callable[[], float] = time.time) -> None:
        self.path = Path(settings.path) if settings.path is not None else cache_folder() / "tools.sqlite"
        self._settings = settings
        self._now = now
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tool-cache")
        self._store: _Store | None = None
        self._off = False
        self._unwritten: dict[str, Dated] = {}
        self._writing: asyncio.Task[None] | None = None

    async def recall(self, queries: Sequence[Query]) -> list[Answer | None]:
        """What is known of each query, by one look at the disk for all of them."""
        wanted = {query.key: query.tool for query in queries if query.key is not None and query.tool.is_kept}
        if self._off or not wanted:
            return [None] * len(queries)
        known = self._fresh({key: self._unwritten[key] for key in wanted if key in self._unwritten}, wanted)
        on_disk = [key for key in wanted if key not in known]
        if on_disk:
            known |= await self._do(lambda: self._fresh(self._opened().read(on_disk), wanted)) or {}
        return [
            Answer(known[query.key], CacheStatus.HIT, attempts=0) if query.key in known else None for query in queries
        ]

    async def keep(self, query: Query, answer: Answer) -> Answer:
        """Remember a success. It is on the disk a little later, and known at once."""
        if query.key is None or not answer.reply.ok or not query.tool.is_kept or self._off:
            return answer
        self._unwritten[query.key] = (
            json.dumps([answer.reply.content, dict(answer.reply.data)], allow_nan=False),
            self._now(),
        )
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        return replace(answer, cache=CacheStatus.MISS)

    async def close(self) -> None:
        if self._writing is not None:
            await self._writing
        await self._do(self._close)
        self._thread.shutdown()

    async def _write(self) -> None:
        """Write what waits, and what comes meanwhile; many answers make one transaction."""
        while self._unwritten and not self._off:
            batch = dict(self._unwritten)
            await self._do(lambda batch=batch: self._opened().write(batch))
            self._unwritten = {key: reply for key, reply in self._unwritten.items() if batch.get(key) is not reply}
        self._writing = None

    async def _do(self, work: Callable[[], T]) -> T | None:
        """Work of the cache's thread; None, and no cache from then on, when it fails."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            if not self._off:
                self._off = True
                self._unwritten.clear()
                logger.warning(
                    "the cache %s is off from here on (%s); calls go on without it: free some room or remove the file, "
                    "then start again",
                    self.path,
                    error,
                )
            return None

    def _fresh(self, found: Mapping[str, Dated], tools: Mapping[str, Tool]) -> dict[str, ToolReply]:
        """The answers that are not too old, by key."""
        now = self._now()
        return {
            key: _parse(reply)
            for key, (reply, at) in found.items()
            # An answer from the future says that the clock went back: how old it is cannot be known.
            if tools[key].deterministic or 0 <= now - at < self._settings.ttl_s
        }

    # What follows runs on the cache's thread.

    def _opened(self) -> _Store:
        if self._store is None:
            self._store = _Store(self.path, self._settings.megabytes * 2**20)
        return self._store

    def _close(self) -> None:
        if self._store is not None:
            self._store.close()


class _Store:
    """The file. Who was used last is told by a count, not by a clock."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._most_bytes = most_bytes
        self._database = sqlite3.connect(path, timeout=LOCKED_S, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last answers, never the file
        self._database.executescript(SCHEMA)
        self._uses = self._one("SELECT coalesce(max(used), 0) FROM answers")
        self._used: set[str] = set()
        """Keys read since the last write: their use is noted with the next one."""

    def read(self, keys: Sequence[str]) -> dict[str, Dated]:
        """The answers to the keys that are there."""
        rows = self._database.execute(
            "SELECT key, reply, at FROM answers WHERE key IN (SELECT value FROM json_each(?))", (json.dumps(keys),)
        )
        found = {key: (reply, at) for key, reply, at in rows}
        self._used.update(found)
        return found

    def write(self, replies: Mapping[str, Dated]) -> None:
        """Keep answers, and let go of the least recently used ones while they take too much room."""
        self._uses += 1
        with _transaction(self._database):
            self._database.executemany(
                "UPDATE answers SET used = ? WHERE key = ?", [(self._uses, key) for key in self._used]
            )
            self._database.executemany(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)",
                [(key, reply, at, self._uses) for key, (reply, at) in replies.items()],
            )
            while self._bytes() > self._most_bytes and self._one("SELECT count(*) FROM answers"):
                self._database.execute(
                    "DELETE FROM answers WHERE key IN (SELECT key FROM answers ORDER BY used, rowid"
                    " LIMIT (SELECT 1 + count(*) / 20 FROM answers))"
                )
        self._used.clear()

    def close(self) -> None:
        self._database.close()

    def _bytes(self) -> int:
        """What is in use: a file does not shrink, but what was freed is used again."""
        pages = self._one("PRAGMA page_count") - self._one("PRAGMA freelist_count")
        return pages * self._one("PRAGMA page_size")

    def _one(self, statement: str) -> int:
        return self._database.execute(statement).fetchone()[0]


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _parse(reply: str) -> ToolReply:
    content, data = json.loads(reply)
    return ToolReply(content, data)
