"""What every client of another's HTTP service needs, whatever it asks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from rest_jax.core.text import printable

if TYPE_CHECKING:
    import aiohttp

Headers = Mapping[str, str]

LONGEST_WAIT_S = 600.0
"""Who asks to be left alone for longer, as for a month's quota, is not waited for."""

SHOWN_CHARS = 200
"""How much of a refusal is quoted."""

_AT_HOME = (".localhost", ".local", ".internal", ".home.arpa")
"""Ends of names that no name server of the internet knows (RFC 6761, 6762, 8375; ICANN reserved `internal`)."""


class TooLong(Exception):
    """A body holds more bytes than are read."""


def url_conflicts(url: str, key_variable: str | None = None) -> Iterator[tuple[str, str]]:
    """What settings have to say of a `url` field that is none, or to which the key in an environment variable would
    travel over the internet in clear text."""
    try:
        parts = urlsplit(url)
    except ValueError as error:  # brackets that hold no address
        yield "url", f"expected an address such as https://example.org/search, got '{url}' ({error})"
        return
    if "@" in parts.netloc:
        yield (
            "url",
            f"holds a name or a password, which would be logged; write {parts.hostname} alone, keys go elsewhere",
        )
    elif parts.scheme not in ("http", "https") or not parts.hostname:
        yield "url", f"expected an address such as https://example.org/search, got '{url}'"
    elif key_variable is not None and parts.scheme == "http" and not is_near(parts.hostname):
        yield "url", f"would show the key in {key_variable} to everybody on the way; write https://{parts.netloc}"


def is_near(host: str) -> bool:
    """Whether a host is this machine or one of its own network, by its address or by a name that is none out there."""
    try:
        return not ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith(_AT_HOME)


def retry_after_s(headers: Headers) -> float:
    """Seconds that a service asks to be left alone (RFC 9110, section 10.2.3); 0 where it does not say.

    A date is counted from the answer's own Date: neither clock has to be right.
    """
    asked = headers.get("Retry-After", "").strip()
    if asked.isdecimal():
        return float(asked[:9])
    try:
        wait = parsedate_to_datetime(asked) - parsedate_to_datetime(headers.get("Date", ""))
    except (ValueError, TypeError):  # no dates, or only one of the two with a time zone
        return 0.0
    return max(0.0, wait.total_seconds())


def backoff_s(attempt: int, first_s: float, last_s: float, drawn: float) -> float:
    """Seconds to wait after an attempt, counted from 0: `drawn`, uniform in [0, 1), of a range that begins at the first
    and doubles up to the last (full jitter), so that not all who failed come back at one time."""
    return drawn * min(last_s, first_s * 2.0 ** min(attempt, 64))


def quoted(said: str) -> str:
    """The beginning of what a service said, on a line that steers no terminal."""
    return " ".join(printable(said).split())[:SHOWN_CHARS]


def parse_json(said: str | bytes) -> Any:
    """JSON; numbers that are none (NaN, Infinity) are refused. Raises ValueError."""
    try:
        return json.loads(said, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError(str(error)) from None


async def read_body(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The body, decompressed. Raises TooLong, and reads no further, when it holds more than `most` bytes."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > most:
            raise TooLong
    return bytes(body)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
