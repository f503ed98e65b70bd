"""The system calls that a program under bubblewrap may not make, as a seccomp filter.

Namespaces leave three gaps. A vsock socket reaches the machine's hypervisor from any network namespace (measured: the
host answers). Memory of memfd_create and of shmget stands in no process and under no limit. And tracing, keyrings, bpf,
io_uring and the like are where most escapes from namespaces began. All of these fail with EPERM.
"""

from __future__ import annotations

import os
import platform
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from rest_jax.tools.sandbox.ran import Unavailable

AUDIT_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""include/uapi/linux/audit.h"""

NUMBERS = {
    "socket": (41, 198),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "unshare": (272, 97),
    "setns": (308, 268),
}
"""Numbers of system calls in the order of AUDIT_ARCHITECTURES; only `socket` is judged by its family, the rest fail."""

FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)
"""Sockets that may be made: those of the namespace's own, empty network."""

X32 = 0x40000000
"""Numbers from here on are x86_64's second set of system calls."""

_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _FAIL, _KILL = 0x7FFF0000, 0x00050001, 0x80000000


@contextmanager
def seccomp_filter() -> Iterator[int]:
    """A file descriptor from which the filter may be read once. Raises Unavailable on another kind of processor."""
    reader, writer = os.pipe()
    try:
        with os.fdopen(writer, "wb") as file:
            file.write(filter_of(platform.machine()))
        yield reader
    finally:
        os.close(reader)


@cache
def filter_of(machine: str) -> bytes:
    """The filter as an array of struct sock_filter."""
    if machine not in AUDIT_ARCHITECTURES:
        raise Unavailable(f"there is no system call filter for {machine}", "choose tier: monty or remote")
    column = list(AUDIT_ARCHITECTURES).index(machine)
    numbers = {name: row[column] for name, row in NUMBERS.items()}
    socket_number = numbers.pop("socket")
    lines = [_line(_LOAD, _ARCHITECTURE), _line(_EQUAL, AUDIT_ARCHITECTURES[machine], 1, 0), _line(_RETURN, _KILL)]
    lines += [_line(_LOAD, _NUMBER), _line(_AT_LEAST, X32, 0, 1), _line(_RETURN, _FAIL)]
    for number in numbers.values():
        lines += [_line(_EQUAL, number, 0, 1), _line(_RETURN, _FAIL)]
    lines += [_line(_EQUAL, socket_number, 1, 0), _line(_RETURN, _ALLOW), _line(_LOAD, _FIRST_ARGUMENT)]
    for family in FAMILIES:
        lines += [_line(_EQUAL, family, 0, 1), _line(_RETURN, _ALLOW)]
    return b"".join([*lines, _line(_RETURN, _FAIL)])


def _line(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """One instruction; the last two are how many of the following to pass over."""
    return struct.pack("=HBBI", code, if_true, if_false, value)
