"""What stands between a socket and the adapter: who may ask, a token, patience, and errors that give nothing away."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from rest_jax.tools.protocol import ProtocolError

BODY_S = 30.0
"""How long the body of a request may take to arrive."""

logger = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def guards(token: str | None, *, local: bool) -> list[Any]:
    """The middlewares of an adapter, the outermost first. `token`: what every request must bear, if anything; `local`:
    whether only this machine's own programs are meant."""
    return [
        errors_as_json,
        *([local_only] if local else []),
        *([bearing(token)] if token is not None else []),
        impatient,
    ]


def is_loopback(host: str) -> bool:
    """Whether a host (a name, or an address without brackets) is this machine, and nobody else's name for it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every refusal as {"error": why}; of a defect of ours the client learns no more than that it was one."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        headers = {name: error.headers[name] for name in ("Allow", "Retry-After") if name in error.headers}
        return web.json_response({"error": error.text or error.reason}, status=error.status, headers=headers)
    except ProtocolError as error:
        return web.json_response({"error": str(error)}, status=400)
    except (asyncio.CancelledError, ConnectionError):
        raise
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        return web.json_response({"error": "the adapter failed; its log says why"}, status=500)


@web.middleware
async def local_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what a web page sends: a browser here reaches loopback too, under any name that a page's owner had resolve
    to it (DNS rebinding), and says for which page it asks."""
    addressed = [f"//{request.headers.get('Host', '')}", *request.headers.getall("Origin", ())]
    if not all(is_loopback(_host(address)) for address in addressed):
        raise web.HTTPForbidden(
            text="this adapter answers programs of its own machine: ask localhost, from no web page"
        )
    return await handler(request)


def _host(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def bearing(token: str) -> Any:
    """Refuse requests without `Authorization: Bearer TOKEN`."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(errors="surrogateescape"), f"Bearer {token}".encode()):
            raise web.HTTPUnauthorized(text="send Authorization: Bearer TOKEN")
        return await handler(request)

    return check


@web.middleware
async def impatient(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Read the whole body before the request is looked at; whoever dribbles it is cut off."""
    try:
        async with asyncio.timeout(BODY_S):
            await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text=f"the body did not arrive within {BODY_S:g} s") from None
    return await handler(request)
