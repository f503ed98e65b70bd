"""A SandboxFusion server, or one that speaks like it: `POST /run_code` (github.com/bytedance/SandboxFusion)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

from rest_jax.core.effects import ToolErrorKind
from rest_jax.tools.registry import ToolFailure
from rest_jax.tools.sandbox.child import program
from rest_jax.tools.sandbox.ran import Ran, Tier, Unavailable, ended
from rest_jax.tools.sandbox.settings import PythonSettings
from rest_jax.tools.upstream import Request, TooLongAnswer, open_upstream

GRACE_S = 10.0
"""What the network and a queue may take beyond the program's own time."""


@asynccontextmanager
async def open_remote(settings: PythonSettings) -> AsyncIterator[Tier]:
    """Raises Unavailable without a url. Whether the server answers, only a program can tell."""
    if settings.url is None:
        raise Unavailable("there is no url of a server", "set url to a SandboxFusion server, such as http://host:8080")
    url = f"{settings.url.rstrip('/')}/run_code"
    server = urlsplit(url).netloc.rpartition("@")[2]
    opened = open_upstream(
        f"the sandbox at {server}",
        settings.timeout_s + GRACE_S,
        most_bytes=2 * settings.output_bytes + 2**16,
    )
    async with opened as upstream:

        async def run(code: str, timeout_s: float) -> Ran:
            body = {
                "code": f"{program()}\nrun({code!r})\n",
                "language": "python",
                "run_timeout": timeout_s,
                "memory_limit_MB": settings.memory_mib,
            }
            began = perf_counter()
            try:
                return await upstream.ask(
                    Request(url, body=body), lambda reply: ran_of(reply, server, perf_counter() - began)
                )
            except TooLongAnswer:
                return Ran("output", "", "", perf_counter() - began)

        yield Tier("remote", f"sandbox-fusion@{server}", "It is CPython.", run, provider=server)


def ran_of(reply: Any, server: str, seconds: float) -> Ran:
    """What a reply says. `SandboxError` is a ToolFailure (infra); another shape raises as `Upstream.ask` says."""
    if reply["status"] == "SandboxError":
        raise ToolFailure(ToolErrorKind.INFRA, f"the sandbox at {server} failed: {reply.get('message', '')[:200]}")
    result = reply["run_result"]
    stdout, stderr = result.get("stdout") or "", result.get("stderr") or ""
    took = float(result.get("execution_time") or seconds)
    if result["status"] == "TimeLimitExceeded":
        return Ran("timeout", str(stdout), str(stderr), took)
    code = result.get("return_code")
    return ended(int(code if code is not None else reply["status"] != "Success"), str(stdout), str(stderr), took)
