"""The rollout's door to the adapter: submit calls, poll for replies, never block on a tool."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import aiohttp

from rest_jax.config.settings import ToolsSettings
from rest_jax.core.background import BackgroundLoop
from rest_jax.core.effects import ToolReply
from rest_jax.core.errors import UserError, reason
from rest_jax.tools import protocol
from rest_jax.tools.protocol import Call, ProtocolError
from rest_jax.tools.redact import TOKEN_VARIABLE, own_token
from rest_jax.tools.transport import Transport

TICK_S = 0.001
"""Calls submitted within this time travel in one request."""


class ToolClient:
    """A synchronous client, for use by one thread; its asyncio loop lives in another, so it works in notebooks too.

    Whatever happens to a call, `poll` returns a reply for it: a failure is the reply's fault. `check` before the first
    call: it learns which tools are stateful, and a call of those is never sent twice.
    """

    def __init__(self, url: str, settings: ToolsSettings, token: str | None = None) -> None:
        """`token` is what the adapter asks for; None: what the environment says, if anything."""
        token = token or own_token()
        self.url = url.rstrip("/")
        self._in_flight: dict[int, str] = {}
        self._begun: set[str] = set()
        """Episodes that have a state with their tools, as far as is known here."""
        self._replies: queue.SimpleQueue[tuple[int, ToolReply] | BaseException] = queue.SimpleQueue()
        self._outbox: list[Call] = []
        self._requests: set[asyncio.Task[None]] = set()
        self._loop = BackgroundLoop("tool-client")
        self._transport: Transport = self._loop.wait_for(self._open(settings, token))

    @property
    def in_flight(self) -> int:
        """Calls submitted whose replies `poll` has not yet returned."""
        return len(self._in_flight)

    @property
    def stateful(self) -> frozenset[str]:
        """The tools whose calls belong to a session of their episode; known after `check`."""
        return self._transport.stateful

    def check(self) -> dict[str, Any]:
        """What the adapter says of itself (`GET /healthz`). Raises UserError when it cannot be reached."""
        try:
            return self._loop.wait_for(self._transport.health())
        except (aiohttp.ClientError, TimeoutError, OSError, ProtocolError) as error:
            raise UserError(
                f"no tool adapter answers at {self.url} ({reason(error)}); start one with "
                f"`rest-jax tools serve --corpus FILE`, correct tools.url, or set {TOKEN_VARIABLE} to its token"
            ) from error

    def submit(self, id: int, tool: str, arguments: Mapping[str, Any], episode: str) -> None:
        """Send a call. `id` is the caller's own and must not be in flight; `episode` names the trajectory, which begins
        again when it meets a failure of the infrastructure, and after its `end`."""
        if id in self._in_flight:
            raise ValueError(f"call {id} is in flight already")
        self._in_flight[id] = episode
        begins = tool in self.stateful and episode not in self._begun
        if begins:
            self._begun.add(episode)
        self._loop.call(self._collect, Call(id, tool, dict(arguments), episode, begins))

    def end(self, episode: str) -> None:
        """Its next call, if there is any, begins another session."""
        self._begun.discard(episode)

    def poll(self, timeout_s: float | None) -> list[tuple[int, ToolReply]]:
        """The replies that are there, waiting for the first at most `timeout_s` seconds (None: as long as it takes).

        Empty when the time is over or nothing is in flight.
        """
        replies: list[tuple[int, ToolReply]] = []
        while len(replies) < len(self._in_flight):
            try:
                reply = self._replies.get(block=not replies, timeout=timeout_s)
            except queue.Empty:
                break
            if isinstance(reply, BaseException):
                raise reply
            replies.append(reply)
        for id, reply in replies:
            episode = self._in_flight.pop(id)
            if reply.fault is not None and reply.fault.kind.is_infrastructure:
                self._begun.discard(episode)
        return replies

    def close(self) -> None:
        """Give up what is in flight and close the connections."""
        if not self._loop.closed:
            self._loop.cancel_all()
            self._loop.wait_for(self._transport.close())
            self._loop.close()

    def __enter__(self) -> ToolClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # What follows runs on the loop's thread.

    async def _open(self, settings: ToolsSettings, token: str | None) -> Transport:
        return Transport(self.url, settings, token)

    def _collect(self, call: Call) -> None:
        if not self._outbox:
            asyncio.get_running_loop().call_later(TICK_S, self._send)
        self._outbox.append(call)

    def _send(self) -> None:
        calls, self._outbox = self._outbox, []
        request = asyncio.create_task(self._deliver(calls))
        self._requests.add(request)
        request.add_done_callback(self._done)

    async def _deliver(self, calls: list[Call]) -> None:
        sound: list[Call] = []
        for call in calls:
            if protocol.is_too_deep(call.arguments):
                self._reply(call.id, ToolReply("", fault=protocol.too_deep()))
            else:
                sound.append(call)
        await asyncio.gather(*(self._transport.deliver(batch, self._reply) for batch in protocol.divided(sound)))

    def _reply(self, id: int, reply: ToolReply) -> None:
        self._replies.put((id, reply))

    def _done(self, request: asyncio.Task[None]) -> None:
        """A defect of the client itself must reach its caller, who would wait for ever."""
        self._requests.discard(request)
        if not request.cancelled() and (error := request.exception()) is not None:
            self._replies.put(error)
