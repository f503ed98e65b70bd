"""The tool `python`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from rest_jax.config.plain import settings_digest
from rest_jax.core.effects import ToolReply
from rest_jax.tools.registry import Schema, Tool
from rest_jax.tools.sandbox.ran import reply_of
from rest_jax.tools.sandbox.settings import PythonSettings
from rest_jax.tools.sandbox.tiers import open_tier
from rest_jax.tools.turns import Turns

CODE_CHARS = 50_000
"""The longest program."""


@asynccontextmanager
async def open_python(settings: PythonSettings) -> AsyncIterator[tuple[Tool, ...]]:
    """`python` in the tier that the settings choose, of which the tool's version tells.

    python  {"code", "timeout_s"?: the setting} → content: what was printed, with the value of a last expression as in
            an interactive session, then the error's last lines;
            data {"status": ok | error | timeout | memory | output | killed, "stdout", "stderr", "seconds", "tier"}.
    A program's failure is a reply. Every call is a process (or worker) of its own and finds nothing of earlier ones.
    Raises UserError when no tier, or not the one asked for, works here.
    """
    async with open_tier(settings) as tier:

        async def run(arguments: Mapping[str, Any], _: str) -> ToolReply:
            ran = await tier.run(arguments["code"], arguments.get("timeout_s", settings.timeout_s))
            return reply_of(ran, tier.name, settings.shown_chars, settings.shown_lines)

        yield (
            Tool(
                "python",
                f"1+{tier.name}-{tier.version}.{settings_digest(settings)}",
                f"Run a Python program and see what it prints and the value of its last line. {tier.describes} "
                "Every call starts anew: nothing is kept between calls.",
                _parameters(settings.timeout_s),
                run,
                deterministic=False,
                provider=tier.provider,
                turns=Turns(settings.concurrent),
            ),
        )


def _parameters(timeout_s: float) -> Schema:
    seconds = {"type": "number", "exclusiveMinimum": 0, "maximum": timeout_s}
    return {
        "type": "object",
        "properties": {
            "code": {"type": "string", "description": "The program.", "maxLength": CODE_CHARS},
            "timeout_s": {"description": f"Seconds it may take; {timeout_s:g} unless given.", **seconds},
        },
        "required": ["code"],
        "additionalProperties": False,
    }
