"""A SandboxFusion server, or one that speaks like it: `POST /run_code` (github.com/bytedance/SandboxFusion)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from rest_jax.core.effects import ToolErrorKind
from rest_jax.tools.registry import ToolFailure
from rest_jax.tools.sandbox.child import program
from rest_jax.tools.sandbox.ran import Ran, Tier, Unavailable, ended
from rest_jax.tools.sandbox.settings import PythonSettings

GRACE_S = 10.0
"""What the network and a queue may take beyond the program's own time."""


@asynccontextmanager
async def open_remote(settings: PythonSettings) -> AsyncIterator[Tier]:
    """Raises Unavailable without a url. Whether the server answers, only a program can tell."""
    if settings.url is None:
        raise Unavailable("there is no url of a server", "set url to a SandboxFusion server, such as http://host:8080")
    url = f"{settings.url.rstrip('/')}/run_code"
    server = urlsplit(url).netloc.rpartition("@")[2]
    most = 2 * settings.output_bytes + 2**16
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=settings.concurrent), timeout=aiohttp.ClientTimeout(total=None)
    )

    async def run(code: str, timeout_s: float) -> Ran:
        request = {
            "code": f"{program()}\nrun({code!r})\n",
            "language": "python",
            "run_timeout": timeout_s,
            "memory_limit_MB": settings.memory_mib,
        }
        began = perf_counter()
        limit = aiohttp.ClientTimeout(total=timeout_s + GRACE_S)
        try:
            async with session.post(url, json=request, timeout=limit, allow_redirects=False) as response:
                _check_status(response, server)
                body = await response.content.read(most + 1)
                while len(body) <= most and not response.content.at_eof():
                    body += await response.content.read(most + 1 - len(body))
        except TimeoutError:
            raise ToolFailure(ToolErrorKind.TIMEOUT, f"the sandbox at {server} did not answer in time") from None
        except (aiohttp.ClientError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise ToolFailure(ToolErrorKind.INFRA, f"lost the sandbox at {server} ({reason})") from error
        if len(body) > most:
            return Ran("output", "", "", perf_counter() - began)
        return ran_of(body, server, perf_counter() - began)

    async with session:
        yield Tier("remote", f"sandbox-fusion@{server}", "It is CPython.", run, provider=server)


def ran_of(body: bytes, server: str, seconds: float) -> Ran:
    """What a reply says. `SandboxError`, and anything that is no reply of such a server, is a ToolFailure (infra)."""
    try:
        reply: dict[str, Any] = json.loads(body)
        if reply["status"] == "SandboxError":
            raise ToolFailure(ToolErrorKind.INFRA, f"the sandbox at {server} failed: {reply.get('message', '')[:200]}")
        result = reply["run_result"]
        stdout, stderr = result.get("stdout") or "", result.get("stderr") or ""
        took = float(result.get("execution_time") or seconds)
        if result["status"] == "TimeLimitExceeded":
            return Ran("timeout", str(stdout), str(stderr), took)
        code = result.get("return_code")
        return ended(int(code if code is not None else reply["status"] != "Success"), str(stdout), str(stderr), took)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ToolFailure(
            ToolErrorKind.INFRA, f"the server at {server} does not speak as SandboxFusion ({error!r})"
        ) from error


def _check_status(response: aiohttp.ClientResponse, server: str) -> None:
    if response.status != 200:
        kind = ToolErrorKind.RATE_LIMITED if response.status == 429 else ToolErrorKind.INFRA
        raise ToolFailure(kind, f"the sandbox at {server} answered {response.status}")
