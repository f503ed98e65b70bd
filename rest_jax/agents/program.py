"""Programs: one as the answer (Chen et al. 2021), or one whose output is (program of thought, Chen et al. 2023; PAL,
Gao et al. 2023). A program is the block that the model writes after `PROGRAM`; it runs by the tool `python` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_jax.agents.cot import think
from rest_jax.agents.endings import broken_off, failed
from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import FENCE, NEW_LINE, Line, Prompt
from rest_jax.core.demonstration import Demonstration
from rest_jax.core.effects import (
    Agent,
    CallTool,
    Candidate,
    Finish,
    Generated,
    Outcome,
    Status,
    ToolReply,
    finished,
    stopped,
)
from rest_jax.core.trajectory import Question

PYTHON = "python"
"""The tool that runs programs."""
PROGRAM = f"Program:{NEW_LINE}{FENCE}python{NEW_LINE}"


def program(question: Question, prompt: Prompt, limits: Limits) -> Agent:
    """Write a program, in one call of step `write`: it is the answer."""
    return written((yield think(question, prompt, limits, "write")))


def program_of_thought(question: Question, prompt: Prompt, limits: Limits) -> Agent:
    """Write a program and run it: what it prints last is the answer."""
    outcome = yield from program(question, prompt, limits)
    if outcome.answer is None:
        return outcome
    return computed((yield CallTool(PYTHON, {"code": outcome.answer})))


def program_of(candidate: Candidate) -> str | None:
    """The program that a reply is; None where it holds none, or was cut short."""
    return (candidate.finish in (Finish.STOP, Finish.EOS) and block_of(candidate.text)) or None


def block_of(text: str) -> str:
    """What stands in a block of code. A tokenizer may keep a part of the fence that ended it, which no code ends
    with."""
    return text.strip(NEW_LINE).rstrip(f"{FENCE}{NEW_LINE} ")


def written(reply: Generated) -> Outcome:
    """What a reply that is a program comes to: itself, or why there is none."""
    if (outcome := broken_off(reply)) is not None:
        return outcome
    if reply.finish is Finish.LENGTH:
        return stopped(Status.TOKEN_LIMIT, "the program's tokens were used up")
    code = program_of(reply.reply)
    return finished(code) if code else stopped(Status.MALFORMED, "an empty program")


def computed(result: ToolReply) -> Outcome:
    """What a program that was run comes to: what it printed last, or why there is nothing."""
    if result.fault is not None:
        return failed(result) or stopped(Status.MALFORMED, result.fault.message)
    value = printed(result.data)
    return finished(value) if value else stopped(Status.MALFORMED, "the program printed nothing, or failed")


def ran(data: Mapping[str, Any]) -> bool:
    """Whether a program came to its end without an error, by what the tool told of it."""
    return data.get("status") == "ok"


def printed(data: Mapping[str, Any]) -> str | None:
    """The last line that a program printed, which may be the value of its last expression; None where it failed."""
    lines = str(data.get("stdout", "")).split(NEW_LINE) if ran(data) else []
    return next((line.strip() for line in reversed(lines) if line.strip()), None)


def program_lines(demonstration: Demonstration) -> tuple[Line, ...]:
    """A demonstration whose answer is a program, as it stands."""
    return (Line(f"{demonstration.turns[-1].argument.rstrip()}{NEW_LINE}"),)


def program_of_thought_lines(demonstration: Demonstration) -> tuple[Line, ...]:
    """A demonstration in words as a program: its thoughts are comments, and its answer is printed."""
    thoughts = (" ".join(turn.thought.split()) for turn in demonstration.turns)
    comments = [f"# {thought}" for thought in thoughts if thought]
    return (Line(NEW_LINE.join([*comments, f"print({demonstration.turns[-1].argument!r})", ""])),)
