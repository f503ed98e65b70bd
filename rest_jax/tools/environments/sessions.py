"""What a stateful tool remembers of each episode: begun explicitly, for a limited time, and for so many at once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from rest_jax.core.effects import ToolErrorKind
from rest_jax.tools.registry import ToolFailure

State = TypeVar("State")


@dataclass(eq=False)
class _Session(Generic[State]):
    state: State
    used: float
    """When its last call began or ended, by the clock."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Whose turn it is: an episode's calls are made one after the other, in the order in which they came."""


class Sessions(Generic[State]):
    """The state of each episode that has begun.

    A session ends when its episode begins anew; when it goes unused for `ttl_s` seconds (seen at the next call of any
    episode); when there are more than `most` and it is the least recently used one; and when a call on it fails
    otherwise than by the agent's own mistake, for nobody knows what state that left behind. A call on a session that
    has ended, or that was another process's, is a failure of the infrastructure, never an empty state in silence.
    """

    def __init__(
        self, *, ttl_s: float, most: int, close: Callable[[State], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`close` gives up a state, without waiting for anything; `clock` says seconds that only ever grow."""
        self._ttl_s = ttl_s
        self._most = most
        self._close = close
        self._clock = clock
        self._sessions: OrderedDict[str, _Session[State]] = OrderedDict()  # the least recently used first

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(self, episode: str, state: State) -> None:
        """The episode begins, or begins anew, with this state, which is the sessions' to close from now on.

        Raises ToolFailure: `bad_arguments` when the call names no episode, `rate_limited` when as many sessions as
        there may be are all at work. Then the state is closed.
        """
        self._end_expired()
        self._end(episode)
        try:
            if not episode:
                raise ToolFailure(ToolErrorKind.BAD_ARGUMENTS, "a stateful tool must know whose call it is: `episode`")
            while len(self._sessions) >= self._most:
                self._end(self._idle())
        except ToolFailure:
            self._close(state)
            raise
        self._sessions[episode] = _Session(state, self._clock())

    @contextlib.asynccontextmanager
    async def use(self, episode: str) -> AsyncIterator[State]:
        """The episode's state, for one call. Raises ToolFailure (infra) when it has none."""
        self._end_expired()
        session = self._sessions.get(episode)
        if session is None:
            raise self._lost()
        async with session.turn:
            self._touch(episode, session)
            try:
                yield session.state
            except BaseException as error:
                if not (isinstance(error, ToolFailure) and not error.kind.is_infrastructure):
                    self._end(episode, session)
                raise
            self._touch(episode, session)

    def _touch(self, episode: str, session: _Session[State]) -> None:
        """Note that the session is used. Raises ToolFailure (infra) when it has ended by now."""
        if self._sessions.get(episode) is not session:
            raise self._lost()
        session.used = self._clock()
        self._sessions.move_to_end(episode)

    def _idle(self) -> str:
        for episode, session in self._sessions.items():
            if not session.turn.locked():
                return episode
        raise ToolFailure(ToolErrorKind.RATE_LIMITED, f"all {self._most} sessions are at work")

    def _end_expired(self) -> None:
        oldest = self._clock() - self._ttl_s
        for episode, session in tuple(self._sessions.items()):
            if session.used < oldest and not session.turn.locked():
                self._end(episode)

    def _end(self, episode: str, only: _Session[State] | None = None) -> None:
        """End the episode's session, if it has one, and if it is not another than `only`."""
        session = self._sessions.get(episode)
        if session is not None and only in (None, session):
            del self._sessions[episode]
            self._close(session.state)

    def _lost(self) -> ToolFailure:
        return ToolFailure(
            ToolErrorKind.INFRA,
            f"session lost: the episode has none here; it was never begun, went unused for {self._ttl_s:g} s, gave "
            "way to others, failed, or the adapter has been restarted",
        )
