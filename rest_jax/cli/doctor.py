"""`rest-jax doctor`: what this machine has, what is missing, and how to get it."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import importlib.util
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from rest_jax.core.cache import cache_folder
from rest_jax.core.errors import UserError
from rest_jax.models import catalog

PACKAGES = ("rest_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "transformers", "bm25s")
EXTRAS = (
    ("mcp", "mcp", "MCP servers as tools"),
    ("textworld", "textworld", "TextWorld's games"),
    ("alfworld", "fast_downward", "ALFWorld's games"),
    ("test", "pytest", "the tests"),
    ("dev", "ruff", "lint and types"),
    ("reference", "torch", "parity tests"),
)
ACCELERATORS = (
    ("NVIDIA GPU", "gpu", "/dev/nvidia0", "pip install 'rest_jax[cuda12]' (or cuda13, if the driver is for CUDA 13)"),
    ("TPU", "tpu", "/dev/accel0", "pip install 'rest_jax[tpu]'"),
    ("TPU", "tpu", "/dev/vfio/0", "pip install 'rest_jax[tpu]'"),
)
SANDBOXES = (
    ("bwrap", "all of Python, without network, in namespaces of its own"),
    ("monty", "arithmetic and simple functions"),
)
GIB = 2**30
NEEDED_DISK, NEEDED_MEMORY = 3 * GIB, 4 * GIB
"""What configs/quickstart.yaml needs, roughly: model, checkpoints and trajectories; model, cache and optimizer."""

START_S = 120
"""How long `--processes` waits for the others."""


@dataclass(frozen=True)
class Finding:
    """One line of the table. `mend` is what to do; empty when all is well."""

    section: str
    name: str
    value: str
    mend: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--processes",
        action="store_true",
        help="start JAX in all processes of this launch together (each runs this command); exit code 1 if it fails",
    )


def execute(options: argparse.Namespace) -> int:
    together = list(_processes(options.processes))  # before this process holds the devices
    found = [*_machine(), *together, *_devices(), *_packages(), *_models(), *_agents(), *_sandbox(), *_extras()]
    if options.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in found], indent=2, ensure_ascii=False))
    else:
        _show(found)
    return 1 if options.processes and together[-1].mend else 0


def _show(found: list[Finding]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("", "", "found", "to mend"):
        table.add_column(heading, overflow="fold")
    section = ""
    for finding in found:
        if finding.section != section:
            table.add_section()
        first = finding.section if finding.section != section else ""
        table.add_row(f"[bold]{first}[/]", finding.name, escape(finding.value), f"[yellow]{escape(finding.mend)}[/]")
        section = finding.section
    Console().print(table)


def _machine() -> Iterator[Finding]:
    from rest_jax.distributed.cpu import available_memory

    yield Finding("machine", "Python", f"{platform.python_version()} in {sys.prefix}")
    yield Finding("machine", "platform", f"{platform.platform()}, {os.cpu_count()} CPUs")
    memory = available_memory()
    if memory is None:
        yield Finding("machine", "memory", "unknown: this platform does not say")
    else:
        yield _amount("free memory", memory, NEEDED_MEMORY, "the quickstart may not fit; end other programs")
    cache = cache_folder()
    existing = next(folder for folder in (cache, *cache.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    yield _amount(f"free disk at {cache}", free, NEEDED_DISK, "free some, or set REST_JAX_CACHE to another folder")


def _amount(name: str, size: int, needed: int, mend: str) -> Finding:
    return Finding("machine", name, f"{size / GIB:.1f} GiB", "" if size >= needed else mend)


def _processes(probed: bool) -> Iterator[Finding]:
    """What a launcher says of this process; `probed`: and whether all of them find each other."""
    from rest_jax.distributed.probe import probe
    from rest_jax.distributed.processes import launched

    try:
        this = launched()
        yield Finding("processes", "this", str(this))
        if probed:
            yield Finding("processes", "together", f"devices of each: {probe(this, START_S)}")
    except UserError as error:
        what, _, mend = str(error).rpartition("; ")
        yield Finding("processes", "together" if probed else "this", what, mend)


def _devices() -> Iterator[Finding]:
    import jax

    try:
        devices = jax.devices()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        yield Finding("devices", "jax", f"no device: {reason}", "check JAX_PLATFORMS and the driver")
        return
    for device in devices:
        yield Finding("devices", f"{device.platform}:{device.id}", device.device_kind)
    for name, backend, path, mend in ACCELERATORS:
        if Path(path).exists() and backend not in {device.platform for device in devices}:
            yield Finding("devices", name, f"{path} is here, but jax does not use it", mend)


def _packages() -> Iterator[Finding]:
    for package in PACKAGES:
        try:
            yield Finding("packages", package, metadata.version(package))
        except metadata.PackageNotFoundError:
            mend = "pip install -e . in its folder" if package == "rest_jax" else f"pip install {package}"
            yield Finding("packages", package, "not installed", mend)


def _models() -> Iterator[Finding]:
    for name in catalog.NAMES:
        try:
            yield Finding("models", name, str(catalog.get(name, offline=True)))
        except UserError:
            yield Finding("models", name, "not fetched yet (a run fetches it)", f"rest-jax models get {name}")


def _agents() -> Iterator[Finding]:
    """What `agent.name` and `--agent` may name."""
    from rest_jax.agents import registry

    for name in registry.NAMES:
        method = registry.agent(name)
        tools = (*method.tools, "the oracle") if method.oracle else method.tools
        yield Finding("agents", name, f"calls {' and '.join(tools)}" if tools else "calls no tool")


def _sandbox() -> Iterator[Finding]:
    """The sandboxes for code that a model wrote, from the strongest on; each is tried."""
    from rest_jax.tools.sandbox.ran import Unavailable

    for name, about in SANDBOXES:
        try:
            version = asyncio.run(_sandbox_version(name))
        except Unavailable as error:
            yield Finding(
                "sandbox", name, f"does not work: {error.why}", f"{error.mend}; only the python tool needs it"
            )
        else:
            yield Finding("sandbox", name, f"{about} ({version})")


async def _sandbox_version(tier: str) -> str:
    from rest_jax.tools.sandbox.settings import PythonSettings
    from rest_jax.tools.sandbox.tiers import open_tried

    async with open_tried(tier, PythonSettings()) as tried:
        return tried.version


def _extras() -> Iterator[Finding]:
    for extra, module, about in EXTRAS:
        here = importlib.util.find_spec(module) is not None
        mend = "" if here else f"pip install 'rest_jax[{extra}]', for {about} only"
        yield Finding("extras", extra, "here" if here else "not installed", mend)
