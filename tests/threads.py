"""A group whose processes are threads of a test. It keeps the real one's contract, and whoever fails ends all."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rest_jax.distributed.group import Group

WITHIN_S = 60


class Thread(Group):
    def __init__(self, index: int, room: Room) -> None:
        super().__init__(index, room.barrier.parties)
        self._room, self._turns = room, itertools.count()

    def shared(self, word: Any = None) -> list[Any]:
        turn = next(self._turns)
        self._room.words[turn, self.index] = json.dumps(word)
        self._room.barrier.wait(WITHIN_S)
        return [json.loads(self._room.words[turn, index]) for index in range(self.count)]

    def counter(self) -> Callable[[], int]:
        return self._room.counters.setdefault(next(self._turns), itertools.count()).__next__


class Room:
    def __init__(self, count: int) -> None:
        self.barrier = threading.Barrier(count)
        self.words: dict[tuple[int, int], str] = {}
        self.counters: dict[int, itertools.count[int]] = {}


def in_threads(count: int, play: Callable[[Group], Any]) -> list[Any]:
    """What each of so many comes to; the error of the one that failed first, where one did."""
    room, failed = Room(count), []

    def one(index: int) -> Any:
        try:
            return play(Thread(index, room))
        except BaseException as error:
            failed.append(error)
            room.barrier.abort()
            return None

    with ThreadPoolExecutor(count) as threads:
        results = list(threads.map(one, range(count)))
    if failed:
        raise failed[0]
    return results
