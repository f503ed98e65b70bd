"""Programs with tests of the model's own: written once, before any program, and run with each (Reflexion on code, Shinn
et al. 2023, section 4.3). No hidden test has a part in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rest_jax.agents.attempt import Attempt, Run
from rest_jax.agents.cot import think
from rest_jax.agents.demonstration import Lines
from rest_jax.agents.endings import broken_off
from rest_jax.agents.gates import Passed
from rest_jax.agents.limits import Limits
from rest_jax.agents.program import PYTHON, block_of, computed, printed, program
from rest_jax.agents.prompt import FENCE, NEW_LINE, Line, Prompt
from rest_jax.core.demonstration import Demonstration
from rest_jax.core.effects import Agent, CallTool, Finish, Generated, ToolReply
from rest_jax.core.trajectory import Question

PASSED = "All tests passed."
"""What is printed after the tests: a program that leaves before their end, with exit code 0, does not pass them."""
TESTS = f"Tests:{NEW_LINE}{FENCE}python{NEW_LINE}"


def testing(again: Callable[[Run], Run]) -> Run:
    """An agent that writes tests, in a call of step `test`, and then goes on as `again` makes one of an attempt: a
    program that is run with them. Reflections are told the tests; programs are not."""

    def run(question: Question, prompt: Prompt, limits: Limits) -> Agent:
        reply = yield think(question, prompt.beside["test"], limits, "test")
        if (broken := broken_off(reply)) is not None:
            return broken
        tests = tests_of(reply)
        knowing = {step: beside.telling((TESTS, tests)) for step, beside in prompt.beside.items() if step != "test"}
        return (yield from again(tested(tests))(question, replace(prompt, beside=knowing), limits))

    return run


def tested(tests: str) -> Run:
    """An attempt that is a program, run with these tests; what comes of that is shown, and changes nothing."""

    def run(question: Question, prompt: Prompt, limits: Limits) -> Agent:
        outcome = yield from program(question, prompt, limits)
        if outcome.answer is None:
            return outcome
        told = f"{tests}\nprint({PASSED!r})" if tests else ""
        result: ToolReply = yield CallTool(PYTHON, {"code": f"{outcome.answer}\n\n{told}\n"})
        failed = computed(result)
        return failed if failed.status.is_masked else outcome

    return run


def own_tests(question: Question, prompt: Prompt, limits: Limits, attempt: Attempt) -> Passed:
    """The gate of a `tested` attempt: its program came to the end of the tests, of which there has to be one."""
    yield from ()
    return attempt.outcome if any(printed(reply.data) == PASSED for reply in attempt.found) else None


def tests_of(reply: Generated) -> str:
    """The tests that a reply holds; of one that was cut short those that stand before its last line."""
    return block_of(reply.text.rpartition(NEW_LINE)[0] if reply.finish is Finish.LENGTH else reply.text)


def tested_lines(lines: Lines) -> Lines:
    """A demonstration's tests are those that its question shows; its program passes them at once."""

    def script(demonstration: Demonstration) -> tuple[Line, ...]:
        shown = [line for line in demonstration.question.text.splitlines() if line.startswith("assert ")]
        return (Line("".join(f"{line}{NEW_LINE}" for line in shown)), *lines(demonstration))

    return script
