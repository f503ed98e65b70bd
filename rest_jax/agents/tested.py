"""Programs with tests of the model's own: written once, before any program, and run with each (Reflexion on code, Shinn
et al. 2023, section 4.3). No hidden test has a part in it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

from rest_jax.agents.attempt import Attempt, Run
from rest_jax.agents.cot import think
from rest_jax.agents.demonstration import Lines
from rest_jax.agents.endings import broken_off
from rest_jax.agents.limits import Limits
from rest_jax.agents.program import PYTHON, computed, program, program_of, ran
from rest_jax.agents.prompt import FENCE, NEW_LINE, Line, Prompt
from rest_jax.core.demonstration import Demonstration
from rest_jax.core.effects import Agent, CallTool, Effect, ToolReply
from rest_jax.core.trajectory import Question

TESTS = f"Tests:{NEW_LINE}{FENCE}python{NEW_LINE}"


def testing(again: Callable[[Run], Run]) -> Run:
    """An agent that writes tests, in a call of step `test`, and then goes on as `again` makes one of an attempt: a
    program that is run with them. Reflections are told the tests; programs are not."""

    def run(question: Question, prompt: Prompt, limits: Limits) -> Agent:
        reply = yield think(question, prompt.beside["test"], limits, "test")
        if (broken := broken_off(reply)) is not None:
            return broken
        tests = program_of(reply.reply) or ""
        knowing = {step: beside.telling((TESTS, tests)) for step, beside in prompt.beside.items() if step != "test"}
        return (yield from again(tested(tests))(question, replace(prompt, beside=knowing), limits))

    return run


def tested(tests: str) -> Run:
    """An attempt that is a program, run with these tests; what comes of that is shown, and changes nothing."""

    def run(question: Question, prompt: Prompt, limits: Limits) -> Agent:
        outcome = yield from program(question, prompt, limits)
        if outcome.answer is None:
            return outcome
        result: ToolReply = yield CallTool(PYTHON, {"code": f"{outcome.answer}\n\n{tests}\n"})
        failed = computed(result)
        return failed if failed.status.is_masked else outcome

    return run


def own_tests(question: Question, prompt: Prompt, limits: Limits, attempt: Attempt) -> Generator[Effect, Any, bool]:
    """The gate of a `tested` attempt: its program came to the end of the tests."""
    yield from ()
    return any(ran(reply.data) for reply in attempt.found)


def tested_lines(lines: Lines) -> Lines:
    """A demonstration's tests are those that its question shows; its program passes them at once."""

    def script(demonstration: Demonstration) -> tuple[Line, ...]:
        shown = [line for line in demonstration.question.text.splitlines() if line.startswith("assert ")]
        return (Line("".join(f"{line}{NEW_LINE}" for line in shown)), *lines(demonstration))

    return script
