"""How a program ended, and what a model is shown of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from rest_jax.core.effects import ToolReply
from rest_jax.core.text import valid_unicode

Status = Literal["ok", "error", "timeout", "memory", "output", "killed"]
"""error: an exception or an exit code; output: it printed too much; killed: by a signal."""

ENDED: dict[Status, str] = {
    "timeout": "(stopped: out of time)",
    "memory": "(stopped: out of memory)",
    "output": "(stopped: too much output)",
    "killed": "(killed)",
}
"""What is added to the content of a program that did not come to its own end."""


@dataclass(frozen=True)
class Ran:
    """A program that was run. `stdout` ends with the value of its last expression, as in an interactive session."""

    status: Status
    stdout: str
    stderr: str
    seconds: float


@dataclass(frozen=True)
class Tier:
    """A sandbox that is ready. `run` takes a program and its time limit in seconds.

    Whatever a program does is told by its `Ran`; ToolFailure (infra, timeout, rate_limited) is the sandbox's own
    failure.
    """

    name: str
    version: str
    describes: str
    """What a model has to know about the Python that runs its code."""
    run: Callable[[str, float], Awaitable[Ran]]
    provider: str = ""


class Unavailable(Exception):
    """A tier that does not work here."""

    def __init__(self, why: str, mend: str) -> None:
        super().__init__(why)
        self.why = why
        self.mend = mend


def ended(returncode: int, stdout: str, stderr: str, seconds: float) -> Ran:
    """A program that came to an end by itself; the code of one ended by signal n is -n or 128 + n."""
    if returncode == 0:
        status: Status = "ok"
    elif stderr.rstrip().rpartition("\n")[2].startswith("MemoryError"):
        status = "memory"
    else:
        status = "killed" if returncode < 0 or returncode > 128 else "error"
    return Ran(status, stdout, stderr, seconds)


def reply_of(ran: Ran, tier: str, chars: int, lines: int) -> ToolReply:
    """What was printed, then the error's last lines, then why the program was stopped; each cut to chars and lines."""
    stdout = cut(valid_unicode(ran.stdout), chars, lines)
    stderr = cut(valid_unicode(ran.stderr), chars, lines, ahead=0.0)
    parts = (stdout.rstrip("\n"), stderr.rstrip("\n"), ENDED.get(ran.status, ""))
    return ToolReply(
        "\n".join(part for part in parts if part) or "(no output)",
        {"status": ran.status, "stdout": stdout, "stderr": stderr, "seconds": round(ran.seconds, 4), "tier": tier},
    )


def cut(text: str, chars: int, lines: int, ahead: float = 0.5) -> str:
    """The text, or at most `chars` characters of it in at most `lines` lines: the share `ahead` from its beginning, the
    rest from its end, and between them a line that says how much was left out."""
    rows = text.splitlines(keepends=True)
    if len(text) <= chars and len(rows) <= lines:
        return text
    first = int((lines - 1) * ahead)
    last = lines - 1 - first
    room = chars - len(_left_out(len(text))) - 1
    head = min(int(room * ahead), sum(map(len, rows[:first])))
    tail = min(room - int(room * ahead), sum(map(len, rows[-last:])))
    before, after = text[:head], text[len(text) - tail :]
    border = "\n" if before and not before.endswith("\n") else ""
    return f"{before}{border}{_left_out(len(text) - head - tail)}{after}"


def _left_out(characters: int) -> str:
    return f"[… {characters} characters left out …]\n"
