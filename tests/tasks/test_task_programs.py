"""Programs as answers: judged in the sandbox as HumanEval's own harness judges them, and not to be got round."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from rest_jax.agents.registry import agent
from rest_jax.cli.main import main
from rest_jax.config.settings import TaskSettings
from rest_jax.core.background import BackgroundLoop
from rest_jax.core.effects import ToolErrorKind
from rest_jax.core.errors import UserError
from rest_jax.core.trajectory import Question
from rest_jax.tasks import programs
from rest_jax.tasks.files import write_jsonl
from rest_jax.tasks.metrics import Score
from rest_jax.tasks.programs import SETTINGS, program_metric
from rest_jax.tasks.registry import task
from rest_jax.tasks.splits import Split
from rest_jax.tools.registry import ToolFailure
from rest_jax.tools.sandbox.ran import Ran, Tier
from tests.tools.sandbox_here import needs_bwrap

pytestmark = needs_bwrap

PROMPT = 'def double(x):\n    """Twice x."""\n'
DOUBLE = Question(
    "q",
    PROMPT,
    "    return 2 * x\n",
    {"before": PROMPT, "after": "def check(f):\n    assert f(3) == 6\n    assert f(0) == 0\n\ncheck(double)"},
)

RIGHT = {
    "its end": "    return 2 * x\n",
    "all of it": "def double(x):\n    return x + x\n",
    "another helper first": "    return _twice(x)\n\ndef _twice(x):\n    return x + x\n",
    "a fenced block": "Here it is:\n```python\ndef double(x):\n    return x + x\n```\nIt adds.",
    "a block that was cut short": "```\ndef double(x):\n    return x + x\n",
    "prints a lot": "    print('x' * 4_000_000)\n    return 2 * x\n",
    "a main that would fail": "    return 2 * x\n\nif __name__ == '__main__':\n    raise SystemExit(1)\n",
    "a thread that goes on": (
        "    import threading, time\n    threading.Thread(target=time.sleep, args=(60,)).start()\n    return 2 * x\n"
    ),
    "writes a file": "    open('f', 'w').write('x')\n    return 2 * x\n",
    "lines end as on Windows": "    return 2 * x\r\n",
}
WRONG = {
    "another value": "    return x\n",
    "nothing": "",
    "no Python": "    return 2 *\n",
    "no indentation": "return 2 * x\n",
    "an exception": "    raise ValueError\n",
    "leaves with 0": "    import sys\n    sys.exit(0)\n",
    "leaves at once": "    import os\n    os._exit(0)\n",
    "feigns to be killed": "    import os\n    os._exit(137)\n",
    "never ends": "    while True:\n        pass\n",
    "fills memory": "    return [0] * 10**9\n",
    "asks for input": "    return int(input())\n",
    "reads another's file": "    open('/etc/passwd').read()\n    return 2 * x\n",
    "a lone surrogate": "    return '\ud800'\n",
    "a null byte": "    return 2 * x\x00\n",
}


@pytest.mark.parametrize("what", RIGHT)
def test_a_program_that_passes_its_tests_is_right(what: str) -> None:
    assert program_metric(RIGHT[what], DOUBLE) == Score(1.0, 1.0)


@pytest.mark.parametrize("what", WRONG)
def test_a_program_that_does_not_come_to_the_end_of_its_tests_is_wrong(what: str) -> None:
    assert program_metric(WRONG[what], DOUBLE) == Score(0.0, 0.0)


def test_no_answer_is_wrong() -> None:
    assert program_metric(None, DOUBLE) == Score(0.0, 0.0)


def test_a_question_without_tests_is_told() -> None:
    with pytest.raises(UserError, match='question q: no tests; its line needs "before" and "after"'):
        program_metric("    return 2 * x\n", Question("q", "Double it.", "6"))


def humaneval(data: Path, folder: Path) -> tuple[Question, ...]:
    return task(TaskSettings("humaneval", str(data)), folder).splits[Split.REPORT]


def official(question: Question, answer: str) -> bool:
    """What HumanEval's harness says: prompt, answer and tests as one text, executed in a process; no exception, in
    time. (Of programs that are made of the canonical ones, for it holds nobody back.)"""
    program = f"{question.meta['before']}{answer}\n{question.meta['after']}"
    try:
        ran = subprocess.run(
            [sys.executable, "-I", "-S", "-c", "import sys; exec(sys.stdin.read(), {})"],
            input=program,
            capture_output=True,
            text=True,
            timeout=2 * SETTINGS.timeout_s,
        )
    except subprocess.TimeoutExpired:
        return False
    return ran.returncode == 0


OTHER = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}


def mutated(question: Question, turn: int) -> str:
    """The canonical solution with one thing changed, by turns: a comparison, a number, a returned value, the body; the
    next of them where a solution has none."""
    tree = ast.parse(question.text + question.answer)
    name = question.meta["after"].rpartition("check(")[2].rstrip(")")
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    nodes = [node for statement in function.body[1:] for node in ast.walk(statement)]
    comparisons = [node for node in nodes if isinstance(node, ast.Compare) and type(node.ops[0]) in OTHER]
    numbers = [node for node in nodes if isinstance(node, ast.Constant) and type(node.value) is int]
    returns = [node for node in nodes if isinstance(node, ast.Return)]
    kind = next(k % 4 for k in range(turn, turn + 4) if (comparisons, numbers, returns, [function])[k % 4])
    if kind == 0:
        comparisons[0].ops[0] = OTHER[type(comparisons[0].ops[0])]()
    elif kind == 1:
        numbers[-1].value += 1
    elif kind == 2:
        returns[-1].value = ast.Constant(None)
    else:
        function.body[1:] = []
    return ast.unparse(tree)


def disagreements(questions: Sequence[Question]) -> tuple[list[str], int]:
    """The questions of whose mutant the metric and HumanEval's harness say different things, and how many passed."""
    answers = [mutated(question, turn) for turn, question in enumerate(questions)]
    verdicts = [official(question, answer) for question, answer in zip(questions, answers, strict=True)]
    ours = [program_metric(answer, question).em == 1.0 for question, answer in zip(questions, answers, strict=True)]
    return [q.id for q, ours, theirs in zip(questions, ours, verdicts, strict=True) if ours != theirs], sum(verdicts)


def test_some_solutions_and_their_mutants_are_judged_as_by_humanevals_harness(data: Path, tmp_path: Path) -> None:
    questions = humaneval(data, tmp_path)
    assert [question.id for question in questions] == [f"HumanEval/{number}" for number in range(164)]
    some = questions[::23]
    assert [program_metric(question.answer, question).em for question in some] == [1.0] * len(some)
    assert disagreements(some)[0] == []


@pytest.mark.slow
def test_all_mutants_are_judged_as_by_humanevals_harness(data: Path, tmp_path: Path) -> None:
    differ, passed = disagreements(humaneval(data, tmp_path))
    assert differ == []
    assert 0 < passed < 82, "most mutants are wrong, and some changes make no difference"


@pytest.mark.slow
def test_all_canonical_solutions_of_humaneval_pass(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "check", "humaneval", "--data", str(data)]) == 0
    assert capsys.readouterr().out.startswith("164/164 gold answers are right")


def test_mbpps_tests_are_shown_and_run(tmp_path: Path) -> None:
    """Two tasks of our own in MBPP's shape, in the places of its splits."""
    rows = [
        {
            "task_id": number,
            "text": f"Write a function that adds {number}.",
            "code": f"class Box:\r\n    n = {number}\r\ndef add(x):\r\n    return x + box.n",
            "test_setup_code": "box = Box()",
            "test_list": [f"assert add(0) == {number}", f"assert add(1) == {number + 1}"],
            "challenge_test_list": [],
        }
        for number in (1, 11, 511, 601)
    ]
    write_jsonl(tmp_path / "mbpp" / "mbpp.jsonl", rows)
    made = task(TaskSettings("mbpp", str(tmp_path)), tmp_path / "made")
    splits = {str(split): [question.id for question in questions] for split, questions in made.splits.items()}
    assert splits == {"train": ["mbpp-0601"], "select": ["mbpp-0511"], "report": ["mbpp-0011"]}
    (shown,) = made.sources["gold"]
    (program,) = agent("program").lines(shown)
    assert made.score(program.said, shown.question).em == 1.0
    (question,) = made.splits[Split.REPORT]
    assert question.text.endswith("adds 11. It has to pass these tests:\nassert add(0) == 11\nassert add(1) == 12")
    assert [made.score(question.answer.replace("11", other), question).em for other in ("11", "12")] == [1.0, 0.0]


def test_a_sandbox_that_fails_is_no_wrong_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(code: str, timeout_s: float) -> Ran:
        raise ToolFailure(ToolErrorKind.INFRA, "the sandbox did not begin (no room)")

    loop = BackgroundLoop("a sandbox that fails")
    monkeypatch.setattr(programs, "_sandbox", lambda: (loop, Tier("bwrap", "1", "", fails)))
    with pytest.raises(UserError, match=r"no program can be scored: the sandbox did not begin \(no room\); .*doctor"):
        program_metric("    return 2 * x  # scored here alone\n", DOUBLE)
    loop.close()
