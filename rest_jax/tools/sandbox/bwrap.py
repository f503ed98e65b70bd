"""CPython under bubblewrap: no network, a read-only root, a small /tmp, no capability, nobody's user.

Three places decide the form of the command. Limits are set inside (`program.py`): set outside, the number of processes
is counted over all that the user runs, and for root it is not enforced at all, so root becomes `nobody` first. What
root may read and nobody may not, such as an interpreter under root's home, an outer bubblewrap binds elsewhere first.
And the program is its namespace's first process, so that when it ends the kernel ends, and waits for, all it left.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from rest_jax.tools.sandbox.child import environment, interpreter_arguments, run_child
from rest_jax.tools.sandbox.ran import Ran, Tier, Unavailable
from rest_jax.tools.sandbox.seccomp import seccomp_filter
from rest_jax.tools.sandbox.settings import PythonSettings

OLDEST = (0, 8)
"""The first release that bounds a tmpfs and forbids user namespaces inside."""

NOBODY = "65534"

ELSEWHERE = Path("/tmp/python")
"""Where the outer bubblewrap binds an interpreter that nobody cannot reach; on a tmpfs of its own."""

INSTALL = "install bubblewrap 0.8 or later (apt install bubblewrap)"


@asynccontextmanager
async def open_bwrap(settings: PythonSettings) -> AsyncIterator[Tier]:
    """Raises Unavailable when bubblewrap is not here or too old; whether it works, only a program can tell."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise Unavailable("bubblewrap is not installed", INSTALL)
    version = await asyncio.to_thread(_version, bwrap)
    python = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    entering = enter(bwrap, Path(sys.base_prefix), is_root=os.geteuid() == 0)
    entering += ["--size", str(settings.files_bytes), "--tmpfs", "/tmp", "--chdir", "/tmp", "--remount-ro", "/"]
    interpreter = (str(python), *interpreter_arguments(settings))

    async def run(code: str, timeout_s: float) -> Ran:
        with seccomp_filter() as filter:
            return await run_child(
                [*entering, "--seccomp", str(filter), *interpreter],
                code,
                timeout_s=timeout_s,
                output_bytes=settings.output_bytes,
                env=environment("/tmp"),
                kill=_kill,
                pass_fds=(filter,),
            )

    yield Tier("bwrap", f"{version}.cpython-{sys.version.split()[0]}", "It is CPython's standard library.", run)


def enter(bwrap: str, prefix: Path, *, is_root: bool) -> list[str]:
    """The command up to the file systems that depend on settings; `prefix` is the interpreter's."""
    outer: list[str] = []
    source = prefix
    if is_root:
        # Another user loses the signal that it gets when its parent dies, so it is set again.
        become_nobody = ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--pdeathsig", "KILL"]
        if not _open_to_all(prefix):
            source = ELSEWHERE
            outer = [bwrap, "--die-with-parent", "--unshare-pid", "--as-pid-1", "--dev-bind", "/", "/"]
            outer += ["--tmpfs", str(ELSEWHERE.parent), "--ro-bind", str(prefix), str(ELSEWHERE)]
        outer += become_nobody
    inner = [bwrap, "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--as-pid-1"]
    inner += ["--new-session", "--cap-drop", "ALL", "--uid", NOBODY, "--gid", NOBODY, "--hostname", "sandbox"]
    return [*_first_to_die(), *outer, *inner, *_files(prefix, source)]


def _files(prefix: Path, source: Path) -> list[str]:
    """Programs and libraries, read-only, where they stand outside; no /proc, which would show the machine."""
    arguments = ["--ro-bind", "/usr", "/usr", "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    for name in ("/bin", "/lib", "/lib64"):
        path = Path(name)
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), name]
        elif path.is_dir():
            arguments += ["--ro-bind", name, name]
    if not prefix.is_relative_to("/usr"):
        arguments += ["--ro-bind", str(source), str(prefix)]
    return [*arguments, "--dev", "/dev", "--remount-ro", "/dev"]


def _first_to_die() -> Sequence[str]:
    """When the machine runs out of memory, the kernel ends sandboxes before anything else."""
    return ("choom", "-n", "1000", "--") if shutil.which("choom") else ()


def _open_to_all(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))


def _version(bwrap: str) -> str:
    try:
        said = subprocess.run([bwrap, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"bubblewrap does not run ({error})", INSTALL) from None
    numbers = re.findall(r"\d+", said)
    if tuple(map(int, numbers[:2])) < OLDEST:
        raise Unavailable(f"{said.strip()} is too old", INSTALL)
    return ".".join(numbers)


def _kill(process: Process) -> None:
    """End the namespace's first process, and with it all the others; bubblewrap itself then ends, having reaped it."""
    if process.returncode is not None:
        return
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()
    except OSError:
        children = []
    # Not process.kill(): it may reap the process before asyncio does, which then knows no exit code.
    for pid in map(int, children or [process.pid]):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
