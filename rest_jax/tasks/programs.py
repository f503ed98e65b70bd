"""Programs as answers: right when they pass their question's tests, which run in the sandbox of the tool `python`.

The metric is a function of answer and question like any other; the sandbox that it needs beside them is tried once,
when a first program is scored, and held until the process ends. What a model wrote is neither run nor parsed in this
process.
"""

from __future__ import annotations

import atexit
import re
import secrets
from contextlib import AsyncExitStack
from functools import cache, lru_cache

from rest_jax.core.background import BackgroundLoop
from rest_jax.core.errors import UserError
from rest_jax.core.trajectory import Question
from rest_jax.tasks.metrics import Score
from rest_jax.tools.registry import ToolFailure
from rest_jax.tools.sandbox.ran import Tier
from rest_jax.tools.sandbox.settings import PythonSettings
from rest_jax.tools.sandbox.tiers import open_tier

SETTINGS = PythonSettings(tier="bwrap")
"""The one sandbox here that is all of CPython: a smaller Python would call right programs wrong."""

NOTES = {
    "metric": "pass@1: the published tests, run in a sandbox",
    "agents": "program and those named after it write programs; the others answer on one line",
}
"""What a reader of such a task's tables has to know."""

ATTEMPTS = 3
"""How often a program is run that takes its sandbox with it: either of them may be to blame."""

VERDICTS = 4096
"""Programs whose verdict is remembered: a reward, a record and a report ask for the same one."""

FENCED = re.compile(r"^```[^\n]*\n(.*?)(?:^```|\Z)", re.DOTALL | re.MULTILINE)

HARNESS = """
import os, sys
sys.stdout = sys.stderr = open(os.devnull, "w")
exec({program!r}, {{}})
os.write(1, {passed!r})
os._exit(0)
"""
"""How a program meets its tests. Who comes to their end is let write a word that no program is told: leaving early with
exit code 0 passes nothing."""


def program_metric(answer: str | None, question: Question) -> Score:
    """1 where the answer's program passes the question's tests, within the limits of `SETTINGS`, else 0: EM and F1.

    The program is `meta["before"]`, the answer (its first fenced block, where it has one) and `meta["after"]`, executed
    as one text in a namespace of its own, as HumanEval's harness does (Chen et al. 2021). As there, it shares an
    interpreter with its tests, and one that is made to deceive them can.
    Raises UserError where no sandbox works, and for a question without tests.
    """
    if answer is None:
        return Score(0.0, 0.0)
    if not {"before", "after"} <= question.meta.keys():
        raise UserError(f'question {question.id}: no tests; its line needs "before" and "after", what it runs between')
    fenced = FENCED.search(answer)
    written = fenced[1] if fenced else answer
    passed = float(_passes(f"{question.meta['before']}{written}\n{question.meta['after']}"))
    return Score(passed, passed)


@lru_cache(maxsize=VERDICTS)
def _passes(program: str) -> bool:
    loop, tier = _sandbox()
    return loop.wait_for(_verdict(program, tier))


async def _verdict(program: str, tier: Tier) -> bool:
    passed = secrets.token_hex(16)
    code = HARNESS.format(program=program, passed=passed.encode())
    for _ in range(ATTEMPTS):
        try:
            ran = await tier.run(code, SETTINGS.timeout_s)
        except ToolFailure:
            continue
        return ran.status == "ok" and ran.stdout.endswith(passed)
    try:
        await tier.run("", SETTINGS.timeout_s)
    except ToolFailure as error:
        raise UserError(f"no program can be scored: {error}; see `rest-jax doctor`, then repeat the command") from None
    return False  # another program runs: this one kills itself


@cache
def _sandbox() -> tuple[BackgroundLoop, Tier]:
    """The sandbox, and the loop in which it runs. Raises UserError where it does not work."""
    loop, stack = BackgroundLoop("tests of programs"), AsyncExitStack()

    def close() -> None:
        loop.wait_for(stack.aclose())
        loop.close()

    try:
        tier = loop.wait_for(stack.enter_async_context(open_tier(SETTINGS)))
    except UserError:
        close()
        raise
    atexit.register(close)
    return loop, tier
