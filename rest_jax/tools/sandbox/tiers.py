"""Which sandboxes work here: each is tried by running a program in it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from rest_jax.core.errors import UserError
from rest_jax.tools.registry import ToolFailure
from rest_jax.tools.sandbox.bwrap import open_bwrap
from rest_jax.tools.sandbox.monty import open_monty
from rest_jax.tools.sandbox.ran import Tier, Unavailable
from rest_jax.tools.sandbox.remote import open_remote
from rest_jax.tools.sandbox.settings import PythonSettings
from rest_jax.tools.sandbox.unsafe import open_unsafe

Opener = Callable[[PythonSettings], AbstractAsyncContextManager[Tier]]

OPENERS: dict[str, Opener] = {
    "remote": open_remote,
    "bwrap": open_bwrap,
    "monty": open_monty,
    "unsafe": open_unsafe,
}
"""The sandboxes from the strongest on, and last what is none."""

AUTOMATIC = ("remote", "bwrap", "monty")
"""What `auto` tries, in this order; the first only if it has a url."""

logger = logging.getLogger(__name__)


@asynccontextmanager
async def open_tier(settings: PythonSettings) -> AsyncIterator[Tier]:
    """The tier that the settings name, or the strongest that works. Raises UserError when it, or none, works."""
    names = AUTOMATIC[settings.url is None :] if settings.tier == "auto" else (settings.tier,)
    faults: list[str] = []
    async with AsyncExitStack() as stack:
        for name in names:
            try:
                tier = await stack.enter_async_context(open_tried(name, settings))
            except Unavailable as error:
                faults.append(f"{name}: {error.why}; {error.mend}")
            else:
                _announce(tier, faults)
                yield tier
                return
        raise UserError(f"the python tool has no sandbox ({' · '.join(faults)})")


@asynccontextmanager
async def open_tried(name: str, settings: PythonSettings) -> AsyncIterator[Tier]:
    """The tier `name`, in which a program has run. Raises Unavailable when it does not work here."""
    async with AsyncExitStack() as stack:
        tier = await stack.enter_async_context(OPENERS[name](settings))
        try:
            ran = await tier.run("6 * 7", settings.timeout_s)
        except ToolFailure as error:
            raise Unavailable(str(error), MENDS[name]) from None
        if (ran.status, ran.stdout) != ("ok", "42\n"):
            raise Unavailable(f"6 * 7 gave {ran.status} {(ran.stdout + ran.stderr)[-200:]!r}", MENDS[name])
        yield tier


MENDS = {
    "remote": "start the server, or correct its url",
    "bwrap": "allow user namespaces (Ubuntu: sysctl kernel.apparmor_restrict_unprivileged_userns=0; in a container its "
    "runtime has to), or choose tier: monty or remote",
    "monty": "pip install --force-reinstall pydantic-monty",
    "unsafe": "see the limits of the settings",
}
"""What to do about a tier that is here and does not work."""


def _announce(tier: Tier, faults: list[str]) -> None:
    if tier.name == "unsafe":
        logger.warning("python runs UNSANDBOXED (tier: unsafe): model code may read, write and send what this user may")
    passed = f"; not {', nor '.join(faults)}" if faults else ""
    logger.info("python runs in the tier %s (%s)%s", tier.name, tier.version, passed)
