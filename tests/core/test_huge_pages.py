"""A process starts anew in huge pages: once, with the same number and arguments."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rest_jax.core.huge_pages import asking

TOLD = "glibc.malloc.hugetlb=1"
PROGRAM = """
import os, sys
from rest_jax.core.huge_pages import start_in_huge_pages
print("started", flush=True)
start_in_huge_pages()
print(os.getpid(), os.environ.get("GLIBC_TUNABLES", ""), *sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("tunables", "given", "expected"),
    [
        (None, "always [madvise] never", TOLD),
        ("", "always [madvise] never", TOLD),
        ("glibc.malloc.arena_max=1", "always [madvise] never", f"glibc.malloc.arena_max=1:{TOLD}"),
        (TOLD, "always [madvise] never", None),
        ("glibc.malloc.hugetlb=0", "always [madvise] never", None),
        (None, "[always] madvise never", None),
        (None, "always madvise [never]", None),
        (None, "", None),
    ],
)
def test_it_asks_where_the_system_gives_to_those_that_ask(
    tunables: str | None, given: str, expected: str | None
) -> None:
    assert asking({} if tunables is None else {"GLIBC_TUNABLES": tunables}, given) == expected


@pytest.mark.parametrize("tunables", ["", "glibc.malloc.hugetlb=0"])
def test_the_process_goes_on_with_its_number_and_arguments(tunables: str) -> None:
    state = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    given = state.read_text(encoding="ascii") if state.is_file() else ""
    wanted = asking({"GLIBC_TUNABLES": tunables}, given)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "run", "two words"],
        env={**os.environ, "GLIBC_TUNABLES": tunables},
        stdout=subprocess.PIPE,
        text=True,
    )
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    *started, last = out.splitlines()
    assert started == ["started"] * (1 if wanted is None else 2)
    assert last.split() == [str(process.pid), *filter(None, [wanted or tunables]), "run", "two", "words"]
