"""Methods that write programs, beyond their pages (tests/golden/transcripts): what a program is, that the worked
examples are true, and whose failure is whose."""

import asyncio

import pytest
import yaml

from rest_jax.agents import tested
from rest_jax.agents.limits import Limits
from rest_jax.agents.program import PROGRAM, computed, printed, program_of
from rest_jax.agents.prompt_files import prompt_file
from rest_jax.agents.registry import agent
from rest_jax.agents.replay import replay
from rest_jax.agents.steps import _labelled
from rest_jax.agents.tested import PASSED, TESTS
from rest_jax.core.demonstration import Demonstration, Turn
from rest_jax.core.effects import (
    CallTool,
    Candidate,
    Finish,
    Generate,
    Generated,
    Status,
    ToolErrorKind,
    ToolFault,
    ToolReply,
    finished,
)
from rest_jax.core.trajectory import Question
from rest_jax.tools.sandbox.ran import reply_of
from rest_jax.tools.sandbox.settings import PythonSettings
from rest_jax.tools.sandbox.tiers import open_tier

QUESTION = Question("q", "def one():\n    pass", "")
LIMITS = Limits(turns=3, turn_tokens=32, observation_chars=400)
DOWN = ToolReply("", fault=ToolFault(ToolErrorKind.INFRA, "the sandbox did not begin"))
TOO_LONG = ToolReply("", fault=ToolFault(ToolErrorKind.BAD_ARGUMENTS, "code is too long"))
PROGRAMS = ("programs.yaml", "program_of_thought.yaml", "program_of_thought_without_tool.yaml")


def said(text, finish=Finish.STOP):
    return Generated((Candidate((7,), (-1.0,), text, finish, "```" if finish is Finish.STOP else ""),))


def ran(stdout="", status="ok"):
    return ToolReply(stdout or "(no output)", {"status": status, "stdout": stdout})


def run(name, *given):
    method = agent(name)
    return replay(method.run(QUESTION, method.prompt("base").bare(), LIMITS), given)


@pytest.mark.parametrize(
    ("text", "finish", "code"),
    [
        ("print(1)\n", Finish.STOP, "print(1)"),
        ("print(1)\n``", Finish.EOS, "print(1)"),  # trained on the first token of a fence alone
        ("\n\n    return 1\n", Finish.STOP, "    return 1"),  # goes on where HumanEval's prompt ends
        ("print(1", Finish.LENGTH, None),
        ("\n \n", Finish.STOP, None),
    ],
)
def test_a_program_is_a_reply_without_its_end(text, finish, code):
    assert program_of(said(text, finish).reply) == code


@pytest.mark.parametrize(
    ("stdout", "status", "answer"),
    [("18\n", "ok", "18"), ("rolls\n 18 \n\n", "ok", "18"), ("", "ok", None), ("18\n", "error", None), (7, "ok", "7")],
)
def test_the_answer_of_a_program_is_the_last_line_that_it_printed(stdout, status, answer):
    assert printed({"status": status, "stdout": stdout}) == answer
    assert printed({}) is None


def test_whose_failure_it_is_that_a_program_did_not_run():
    assert computed(DOWN).status is Status.TOOL_FAILURE
    assert computed(TOO_LONG).status is Status.MALFORMED
    for name, before in (("pot", ()), ("pot_critic", ()), ("program_reflexion_self", (said("assert one()\n"),))):
        assert run(name, *before, said("print(1)\n"), DOWN)[0].status is Status.TOOL_FAILURE


def test_a_program_passes_where_it_came_to_the_end_of_the_tests():
    """Not where it left before it with exit code 0, nor where there are no tests."""
    passed, left = ran(f"1\n{PASSED}\n"), ran("1\n")
    tests, program = said("assert one() == 1\n"), said("x\n")
    lesson = said(" Hm.", Finish.EOS)
    assert len(run("program_reflexion_self", tests, program, passed)[1]) == 3
    assert len(run("program_reflexion_self", tests, program, left, lesson, program, passed)[1]) == 6
    outcome, asked = run("program_reflexion_self", said(""), *[program, left, lesson] * 4, program, left)
    assert outcome == finished("x")
    assert {effect.arguments["code"] for effect in asked if isinstance(effect, CallTool)} == {"x\n\n\n"}


@pytest.mark.parametrize(
    ("reply", "tests"),
    [
        (said("assert a\nassert b\n"), "assert a\nassert b"),
        (said("assert a\n``", Finish.EOS), "assert a"),
        (said("assert a\nassert b", Finish.LENGTH), "assert a"),
        (said("assert a", Finish.LENGTH), ""),
    ],
)
def test_tests_that_were_cut_short_are_those_before_their_last_line(reply, tests):
    assert tested.tests_of(reply) == tests


def test_tests_are_written_once_and_shown_to_reflections_alone():
    tests, lesson = "assert one() == 1\n", " Return it."
    given = [said(tests), *[said("pass\n"), ran(status="error"), said(lesson, Finish.EOS)] * 4, said("pass\n")]
    given.append(ran(PASSED))
    outcome, asked = run("program_reflexion_self", *given)
    assert outcome == finished("pass")
    calls = [effect for effect in asked if isinstance(effect, Generate)]
    assert [call.step for call in calls] == ["test", *["write", "reflect"] * 4, "write"]
    assert [f"{TESTS}{tests}" in call.transcript.text for call in calls] == [False, *[False, True] * 4, False]
    assert {call.stop for call in calls if call.step != "reflect"} == {("```",)}
    codes = {effect.arguments["code"] for effect in asked if isinstance(effect, CallTool)}
    assert codes == {f"pass\n\nassert one() == 1\nprint({PASSED!r})\n"}


def test_a_critique_without_a_tool_and_self_refinement_are_not_told_what_was_printed():
    given = [said("print(1)\n"), ran("1\n"), said(" Hm.", Finish.EOS), said("print(2)\n"), ran("2\n")]
    for name, is_told in (("pot_critic", True), ("pot_critic_without_tool", False), ("pot_self_refine", False)):
        playing = [*given, said(" Hm.", Finish.EOS), said("print(2)\n"), ran("2\n")]
        if name == "pot_self_refine":
            playing = [*given, said(" The answer stands.", Finish.EOS)]
        outcome, asked = run(name, *playing)
        assert outcome == finished("2")
        texts = [effect.transcript.text for effect in asked if isinstance(effect, Generate)]
        assert ["\nObservation: 1\n" in text for text in texts[1:3]] == [is_told] * 2


PRINTED = {"A baker": "18", "Tom": "4", "Nora": "155", "Half": "8"}
"""What is right of each question whose program prints its answer."""
RIGHT = {
    "initials": 'assert initials("ada lovelace") == "AL" and initials("") == ""',
    "hottest_day": "assert hottest_day([3.0, 8.5, 8.5]) == 2 and hottest_day([]) == 0",
    "parcels": "assert parcels([2, 3, 4], 5) == 2 and parcels([], 5) == 0 and parcels([5, 5], 5) == 2",
}
"""What has to hold of each function."""
WRITTEN = {"initials": 'def initials(name):\n    return "".join(word[0].upper() for word in name.split())\n'}
"""The functions of stories that hold their tests alone."""


def stories():
    for name in PROGRAMS:
        for story, told in yaml.safe_load(prompt_file(name))["stories"].items():
            yield pytest.param(told["question"], [_labelled(line) for line in told["lines"]], id=f"{name}-{story}")


@pytest.mark.parametrize(("question", "lines"), list(stories()))
def test_the_worked_examples_are_true(question, lines):
    """Programs that a story goes on to mend print or raise what it says, and its last ones are right, but for those
    that are reflected on."""

    async def play(code):
        settings = PythonSettings(tier="monty")
        async with open_tier(settings) as tier:
            return reply_of(await tier.run(code, 5.0), tier.name, 4000, 100)

    tests = "".join(words for label, words in lines if label == TESTS)
    programs = [words for label, words in lines if label == PROGRAM]
    shown = [words for label, words in lines if label == "Observation:"]
    replies = [asyncio.run(play(f"{program.rstrip()}\n\n{tests}")) for program in programs]
    for reply, words in zip(replies, shown, strict=False):
        alike = " ".join(reply.content.split()).replace("iterable argument is empty", "arg is an empty sequence")
        assert alike == words
    if not programs:
        (programs,) = ([program] for function, program in WRITTEN.items() if f"{function} that" in question)
        assert asyncio.run(play(f"{programs[0].rstrip()}\n\n{tests}")).data["status"] == "ok"
    if lines[-1][0] == "Reflection:":
        return
    answers = [answer for begins, answer in PRINTED.items() if question.startswith(begins)]
    if answers:
        assert [printed(replies[-1].data)] == answers
    else:
        (checks,) = (checks for function, checks in RIGHT.items() if f"def {function}(" in programs[-1])
        assert asyncio.run(play(f"{programs[-1].rstrip()}\n\n{checks}\n")).data["status"] == "ok"


def test_a_demonstration_of_programs_says_its_program_and_tests_that_its_question_shows():
    text = "Write one. It has to pass these tests:\nassert one() == 1"
    demonstration = Demonstration(Question("q", text, ""), (Turn("", "finish", "def one():\n    return 1\n"),))
    said_first, program = agent("program_reflexion_self").script(demonstration)
    assert (said_first.said, program.said) == ("assert one() == 1\n", "def one():\n    return 1\n")


def test_a_demonstration_in_words_is_a_program_that_prints_its_answer():
    demonstration = Demonstration(Question("q", "How many?", "18"), (Turn("4 * 12\nis 48.", "finish", "it's 18"),))
    (line,) = agent("pot").lines(demonstration)
    assert line.said == '# 4 * 12 is 48.\nprint("it\'s 18")\n'
