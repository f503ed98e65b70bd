"""Settings of the tool `python`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from rest_jax.config.limits import AboveZero, Limit, Positive
from rest_jax.config.plain import FREE

MIB = 2**20


@dataclass(frozen=True)
class PythonSettings:
    """Where code that a model wrote runs, and within which limits."""

    tier: Literal["auto", "monty", "bwrap", "remote", "unsafe"] = "auto"
    """monty: a Python of its own, for arithmetic and simple functions; bwrap: CPython under bubblewrap; remote: a
    SandboxFusion server; unsafe: CPython without a sandbox; auto: remote if it has a url, else bwrap, else monty."""
    url: str | None = None
    """Address of the SandboxFusion server, without /run_code. Whether it isolates programs is its own affair."""
    timeout_s: AboveZero = 5.0
    """The most seconds that a program may run; a call may ask for less."""
    memory_mib: Annotated[int, Limit("minimum", 64)] = 256
    """Memory of one process of a program; under bwrap all of them together may take `processes` times as much."""
    processes: Positive = 8
    """Processes and threads of a program, the first included; unsafe counts all of the user's, and root's never."""
    files_mib: Positive = 16
    """The largest file that a program may write and, under bwrap, the most that all its files may hold."""
    output_kib: Positive = 1024
    """A program that prints more is ended."""
    shown_chars: Annotated[int, Limit("minimum", 100)] = 4000
    """The most characters of what was printed, and of errors, that a reply holds."""
    shown_lines: Annotated[int, Limit("minimum", 3)] = 100
    """The most lines of the same."""
    concurrent: Positive = field(default=4, metadata=FREE)
    """Programs that run at once; the others wait."""

    @property
    def memory_bytes(self) -> int:
        return self.memory_mib * MIB

    @property
    def files_bytes(self) -> int:
        return self.files_mib * MIB

    @property
    def output_bytes(self) -> int:
        return self.output_kib * 1024

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.tier == "remote" and self.url is None:
            yield "url", "the tier remote needs the address of a SandboxFusion server, such as http://host:8080"
        if self.tier not in ("remote", "auto") and self.url is not None:
            yield "url", f"the tier {self.tier} uses no server; leave url out, or choose tier: remote"
