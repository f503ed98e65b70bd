"""Huge pages for what a process allocates.

A training step's temporary values, a gigabyte for a small model, are asked of the system anew in every step, and a CPU
clears them page by page: 265,000 pages of 4 KiB, or a thousand of 2 MiB, with which a step is 5 to 7 % shorter. Many
systems give huge pages to those that ask (`madvise`); glibc asks where its environment says so when the process starts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

_TUNABLES, _ASKING = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
_GIVEN = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def start_in_huge_pages() -> None:
    """Starts this very process anew, once, with the same number and arguments, in an environment in which glibc asks
    for huge pages. Returns where it would gain nothing: on other systems, where all have huge pages or none, and where
    the environment already says whether to ask (`GLIBC_TUNABLES=glibc.malloc.hugetlb=0`: not)."""
    given = _GIVEN.read_text(encoding="ascii") if _GIVEN.is_file() else ""
    tunables = asking(os.environ, given)
    if tunables is not None and sys.executable:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, _TUNABLES: tunables})


def asking(environment: Mapping[str, str], given: str) -> str | None:
    """GLIBC_TUNABLES that ask for huge pages, beside what else they say; None where they speak of them already, or the
    system does not give them to those that ask (`given`: how it puts that, such as `always [madvise] never`)."""
    tunables = environment.get(_TUNABLES, "")
    if "[madvise]" not in given or _ASKING in tunables:
        return None
    return ":".join(filter(None, [tunables, f"{_ASKING}=1"]))
