"""Whether bubblewrap works on this machine: found out by running a program in it."""

from __future__ import annotations

import asyncio

import pytest

from rest_jax.tools.sandbox.ran import Unavailable
from rest_jax.tools.sandbox.settings import PythonSettings
from rest_jax.tools.sandbox.tiers import open_tried


async def _fault() -> str:
    try:
        async with open_tried("bwrap", PythonSettings(timeout_s=30.0)):
            return ""
    except Unavailable as error:
        return f"{error.why}; {error.mend}"


_FAULT = asyncio.run(_fault())

needs_bwrap = pytest.mark.skipif(bool(_FAULT), reason=_FAULT)

BWRAP = pytest.param("bwrap", marks=needs_bwrap)
