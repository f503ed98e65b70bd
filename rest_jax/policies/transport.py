"""Requests to an endpoint: deadlines, retries, and failures by what can be done about them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

import aiohttp

from rest_jax.config.policies import EndpointSettings
from rest_jax.core.errors import UserError, reason
from rest_jax.core.http import (
    LONGEST_WAIT_S,
    Headers,
    TooLong,
    backoff_s,
    parse_json,
    quoted,
    read_body,
    retry_after_s,
)
from rest_jax.core.secrets import redacted, secret

T = TypeVar("T")

MAX_BYTES = 16 * 2**20
"""The longest response that is read."""
FIRST_BACKOFF_S = 0.5
LAST_BACKOFF_S = 30.0
"""The longest wait before a retry: it begins at the first and doubles up to the last."""

_PASSING = frozenset({408, 409, 425, 429})
_SPENT = ("insufficient_quota", "billing_hard_limit_reached")
"""What a 429 says that no waiting mends. (A passing one may well link to a page about billing.)"""
_NO_ROOM = ("context_length_exceeded", "context length", "context window", "too many tokens", "prompt is too long")
"""What servers say of a transcript that is too long for the model."""


class NoRoom(Exception):
    """The transcript is too long for the model."""


class Lost(Exception):
    """Infrastructure failed, and went on failing; the message says how."""


class _Passing(Exception):
    """A failure that may pass."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Transport:
    """Speaks to one endpoint. Must be made, used and closed on one running asyncio loop.

    Every request ends as what was read, or as Lost, NoRoom or UserError: what no retry mends stops the run. The key is
    nowhere in what they say.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        self._settings = settings
        self._url = settings.url.rstrip("/")
        self._secrets = () if settings.key_variable is None else (secret(settings.key_variable),)
        self._turns = asyncio.Semaphore(settings.concurrency)
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._secrets[0]}"} if self._secrets else None,
            timeout=aiohttp.ClientTimeout(total=settings.timeout_s),
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def ask(self, path: str, body: Mapping[str, Any] | None, read: Callable[[Any], T], retries: int = 0) -> T:
        """What `read` finds in the JSON of `POST path` (without a body `GET`); what it cannot read may be better the
        next time. Redirects are not followed: they would take the key elsewhere."""
        # A turn is kept while a retry waits: were it given to the next request, an endpoint that is busy would get all
        # that waits here, one after the other, and refuse it.
        async with self._turns:
            for attempt in range(retries + 1):
                try:
                    status, headers, said = await self._send(path, body)
                    if status != 200:
                        self._refuse(status, headers, said)
                    return self._read(said, read)
                except _Passing as failure:
                    if attempt == retries:
                        raise self._lost(failure) from None
                    pause_s = backoff_s(attempt, FIRST_BACKOFF_S, LAST_BACKOFF_S, random.random())
                    await asyncio.sleep(failure.retry_after_s + pause_s)
        raise AssertionError("unreachable")

    async def look(self) -> None:
        """Raises Lost where nobody answers. Any answer will do, and nobody's turn is waited for."""
        try:
            await self._send("/models", None)
        except _Passing as failure:
            raise self._lost(failure) from None

    async def close(self) -> None:
        await self._session.close()

    async def _send(self, path: str, body: Mapping[str, Any] | None) -> tuple[int, Headers, str]:
        method = "GET" if body is None else "POST"
        try:
            async with self._session.request(
                method, f"{self._url}{path}", json=body, allow_redirects=False
            ) as response:
                said = (await read_body(response, MAX_BYTES)).decode(errors="replace")
                return response.status, response.headers, redacted(said, self._secrets)
        except TooLong:
            raise _Passing(f"answered more than {MAX_BYTES} bytes") from None
        except TimeoutError:
            raise _Passing(f"did not answer within {self._settings.timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise _Passing(f"is out of reach ({redacted(reason(error), self._secrets)})") from None

    def _read(self, said: str, read: Callable[[Any], T]) -> T:
        try:
            return read(parse_json(said))
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise _Passing(f"did not answer in this shape ({type(error).__name__}: {error})") from None

    def _lost(self, failure: _Passing) -> Lost:
        return Lost(f"the endpoint at {self._url} {failure}")

    def _refuse(self, status: int, headers: Headers, said: str) -> NoReturn:
        words = said.lower()
        told = f"answered {status}: {quoted(said)}"
        if status in (400, 413, 422) and any(phrase in words for phrase in _NO_ROOM):
            raise NoRoom(told)
        wait_s = retry_after_s(headers)
        lasting = wait_s > LONGEST_WAIT_S or (status == 429 and any(word in words for word in _SPENT))
        if (status in _PASSING or status >= 500) and not lasting:
            raise _Passing(told, wait_s)
        raise UserError(f"the endpoint at {self._url} {told}; {_mend(status, self._settings)}, then repeat the command")


def _mend(status: int, settings: EndpointSettings) -> str:
    match status:
        case 401 | 403 if settings.key_variable is None:
            return "name the environment variable with its key in key_variable"
        case 401 | 402 | 403 | 429:
            return "check the key, your plan and your credit"
        case 404:
            return f"check its url and that it serves '{settings.model}' in style {settings.style}"
    return "no retry mends that: see that it takes such requests"
