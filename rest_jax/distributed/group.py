"""The processes that play one run together: what they tell each other, and how they end.

All of them walk the same steps in the same order, so a word needs no address but its turn. Words go over the service of
`jax.distributed` that all are connected to, never over devices: whoever waits for one waits for hours, if it takes
hours, and in no collective that would time out. That service ends with process 0 and forgets: nothing that was said
outlives the processes, so a lease needs no clock.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax

from rest_jax.core.errors import UserError
from rest_jax.distributed.processes import COUNT, Launched, start

WITHIN_S = 300
"""How long processes may take to find each other."""
WAIT_MS = 1000
"""The longest wait for a word before a process looks around (an interrupt is noticed then)."""
LOOK_S = 1.0
"""How soon a process notices that another one failed."""

_GROUPS = itertools.count()
"""A process may play several runs, one after the other; no two share a word."""


class Group:
    """The processes of a run, as one of them knows them. This one is alone."""

    def __init__(self, index: int = 0, count: int = 1) -> None:
        self.index, self.count = index, count

    @property
    def first(self) -> bool:
        """Whether this is process 0, which writes all that is written once."""
        return self.index == 0

    def shared(self, word: Any = None) -> list[Any]:
        """What each process says here (JSON), in their order; waits for all."""
        return [word]

    def told(self, word: Any = None) -> Any:
        """What process 0 says here (JSON), whatever the others say; waits for all."""
        return self.shared(word if self.first else None)[0]

    def counter(self) -> Callable[[], int]:
        """Gives 0, 1, 2, …, each number to one process alone, whoever asks first."""
        return itertools.count().__next__


class _Several(Group):
    """One of several. `client` is JAX's, of the service that they share."""

    def __init__(self, client: Any, index: int, count: int) -> None:
        super().__init__(index, count)
        self._client = client
        self._room = f"rest_jax/{next(_GROUPS)}"
        self._failed = f"{self._room}/failed"
        self._turns = itertools.count()
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="group-watcher", daemon=True)
        self._watcher.start()

    def shared(self, word: Any = None) -> list[Any]:
        turn = f"{self._room}/{next(self._turns)}"
        self._client.key_value_set(f"{turn}/{self.index}", json.dumps(word))
        return [json.loads(self._heard(f"{turn}/{index}")) for index in range(self.count)]

    def counter(self) -> Callable[[], int]:
        turn = f"{self._room}/{next(self._turns)}"
        return lambda: self._client.key_value_increment(turn, 1) - 1

    def end(self, *, failed: bool) -> None:
        """To be called once the run is over here. Where it `failed`, the others end as well; where another one was
        the first to fail, this one ends without a word of its own: what is to be mended is said once."""
        if failed and (self._over.is_set() or not self._claims_failure()):
            self._watcher.join()  # it ends this process
        self._over.set()
        self._watcher.join()

    def _heard(self, key: str) -> str:
        while True:
            try:
                return self._client.blocking_key_value_get(key, WAIT_MS)
            except jax.errors.JaxRuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise

    def _claims_failure(self) -> bool:
        try:
            self._client.key_value_set(self._failed, str(self.index))
        except jax.errors.JaxRuntimeError:  # another one did
            return False
        return True

    def _watch(self) -> None:
        """Ends this process when another one has failed: it may wait in a collective for whoever is gone, where no
        exception reaches it. What it has done is kept, as after a kill."""
        while not self._over.wait(LOOK_S):
            try:
                failed = int(self._client.key_value_try_get(self._failed))
            except jax.errors.JaxRuntimeError:  # nobody did; and where the service is gone, JAX ends this process
                continue
            if failed != self.index:
                print(f"rest-jax: process {failed} of {self.count} failed, so this one ends too", file=sys.stderr)
                sys.stderr.flush()
                self._over.set()
                jax.distributed.shutdown()  # the others wait for this at their own ends
                os._exit(1)


@contextmanager
def joined(this: Launched) -> Iterator[Group]:
    """The processes that were started with this one, made one JAX for a `with` block; alone, all stays as it is.

    To be called before anything asks for a device. An error within the block ends all of the processes, and the one
    that fails first raises it. JAX ends this process itself (SIGABRT) where the others do not come within `WITHIN_S`
    seconds, or where one of them dies. Raises UserError for what JAX refuses, and where it is several processes of
    which no launcher told.
    """
    if this.count == 1:
        if (count := jax.process_count()) > 1:
            raise UserError(
                f"JAX has the devices of {count} processes here, of which no launcher told; say so with {COUNT} (docs/"
                f"launch), or do without jax.distributed.initialize"
            )
        yield Group()
        return
    start(this, WITHIN_S)
    group = _Several(_client(), this.index, this.count)
    try:
        yield group
    except BaseException:
        group.end(failed=True)
        raise
    group.end(failed=False)


def _client() -> Any:
    """JAX's own client of the service. It has no public name; orbax takes it from here, too."""
    from jax._src import distributed

    return distributed.global_state.client
