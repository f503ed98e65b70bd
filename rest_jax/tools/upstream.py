"""Asking another's HTTP service: whatever it does, the caller has JSON or a typed failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

import aiohttp

from rest_jax import __version__
from rest_jax.core.effects import ToolErrorKind
from rest_jax.core.errors import reason
from rest_jax.core.http import LONGEST_WAIT_S, Headers, TooLong, parse_json, quoted, read_body, retry_after_s
from rest_jax.core.secrets import redacted
from rest_jax.tools.registry import Refusal, ToolFailure

MAX_BYTES = 4 * 2**20
"""The longest answer that is read."""

DENIED = frozenset({401, 402, 403})
"""Statuses that last until the user mends something: a key that is none, no plan, no credit."""

USER_AGENT = f"rest_jax/{__version__}"

T = TypeVar("T")


class TooLongAnswer(ToolFailure):
    """A service answered with more bytes than are read of it."""


@dataclass(frozen=True)
class Request:
    """One request. With a `body` it is a POST of that as JSON, else a GET."""

    url: str
    headers: Headers = field(default_factory=dict, repr=False)
    """They may hold a key."""
    params: Mapping[str, str] = field(default_factory=dict)
    body: Any = None


class Upstream:
    """A service of somebody else's. Get one from `open_upstream`."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        name: str,
        secrets: tuple[str, ...],
        wait_s: Callable[[Headers], float],
        turns: asyncio.Semaphore | None,
        most_bytes: int,
    ) -> None:
        self.name = name
        self._session = session
        self._secrets = secrets
        self._wait_s = wait_s
        self._turns = turns or nullcontext()
        self._most_bytes = most_bytes

    async def ask(self, request: Request, read: Callable[[Any], T]) -> T:
        """What `read` finds in the JSON of an answer 200. Redirects are not followed: they would take a key elsewhere.

        Raises ToolFailure: what `read` raises as such, rate_limited (429), timeout, or infra for everything else, as an
        answer that `read` cannot read. It is a Refusal where nobody need ask again before something is mended.
        """
        async with self._turns:
            status, headers, body = await self._send(request)
        said = redacted(body.decode(errors="replace"), self._secrets)
        if status != 200:
            self._refuse(status, headers, said)
        try:
            answer = parse_json(said)
        except ValueError as error:
            raise self._failure(f"did not answer in JSON ({error})") from None
        try:
            return read(answer)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise self._failure(f"did not answer in its own shape ({type(error).__name__}: {error})") from None

    async def _send(self, request: Request) -> tuple[int, Headers, bytes]:
        try:
            async with self._session.request(
                "GET" if request.body is None else "POST",
                request.url,
                headers=request.headers,
                params=request.params,
                json=request.body,
                allow_redirects=False,
            ) as response:
                return response.status, response.headers, await read_body(response, self._most_bytes)
        except TooLong:
            message = f"{self.name} answered more than {self._most_bytes} bytes"
            raise TooLongAnswer(ToolErrorKind.INFRA, message) from None
        except TimeoutError:
            message = f"{self.name} did not answer within {self._session.timeout.total:g} s"
            raise ToolFailure(ToolErrorKind.TIMEOUT, message) from None
        except (aiohttp.ClientError, OSError) as error:
            raise self._failure(f"is out of reach ({reason(error)})") from None

    def _failure(self, message: str) -> ToolFailure:
        return ToolFailure(ToolErrorKind.INFRA, f"{self.name} {message}")

    def _refuse(self, status: int, headers: Headers, said: str) -> NoReturn:
        kind = ToolErrorKind.RATE_LIMITED if status == 429 else ToolErrorKind.INFRA
        told = f"{self.name} answered {status}: {quoted(said)}"
        wait_s = self._wait_s(headers)
        if status in DENIED:
            raise Refusal(kind, f"{told}; check your key for it, your plan and your credit")
        if wait_s > LONGEST_WAIT_S:
            mend = f"it asks to be left alone for {wait_s / 3600:.1f} h: wait, change your plan, or ask somebody else"
            raise Refusal(kind, f"{told}; {mend}", retry_after_s=wait_s)
        raise ToolFailure(kind, told, retry_after_s=wait_s)


@asynccontextmanager
async def open_upstream(
    name: str,
    timeout_s: float,
    *,
    user_agent: str = USER_AGENT,
    secrets: tuple[str, ...] = (),
    wait_s: Callable[[Headers], float] = retry_after_s,
    at_once: int | None = None,
    most_bytes: int = MAX_BYTES,
) -> AsyncIterator[Upstream]:
    """A service by its name, over connections that are kept, without cookies.

    timeout_s: the most seconds of one request, its body included, its turn not. secrets: they are taken out of whatever
    the service says. wait_s: how the headers of a refusal say when to come back, in seconds. at_once: the most requests
    at one time, where that is not for the settings to say. most_bytes: the longest answer that is read.
    """
    async with aiohttp.ClientSession(
        headers={"User-Agent": user_agent},
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        connector=aiohttp.TCPConnector(limit=0),
    ) as session:
        turns = asyncio.Semaphore(at_once) if at_once is not None else None
        yield Upstream(session, name, secrets, wait_s, turns, most_bytes)
