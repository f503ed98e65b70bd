"""Programs from their author to their hidden tests: written, tried on the model's own, judged in the sandbox."""

from __future__ import annotations

from pathlib import Path

import pytest
from rollout_world import ByteCodec

from rest_jax.agents.limits import Limits
from rest_jax.agents.registry import agent
from rest_jax.config.settings import TaskSettings, ToolsSettings
from rest_jax.core.effects import ORACLE, RIGHT, WRONG, Role, Sampling
from rest_jax.core.trajectory import Question
from rest_jax.evaluation.records import judge
from rest_jax.evaluation.table import row
from rest_jax.policies.scripted import ScriptedPolicy
from rest_jax.rollout.episode import Job
from rest_jax.rollout.oracle import WithOracle
from rest_jax.rollout.runner import rollout
from rest_jax.tasks.registry import task
from rest_jax.tasks.splits import Split
from rest_jax.tools.client import ToolClient
from rest_jax.tools.process import adapter
from tests.tools.sandbox_here import needs_bwrap

LIMITS = Limits(turns=8, turn_tokens=500, observation_chars=400)


def function(question: Question) -> str:
    return question.meta["after"].rpartition("check(")[2].rstrip(")")


def scripts(question: Question) -> dict[str, list[str]]:
    """What a model says that fails its own tests at first, and one whose tests let a wrong program pass."""
    name, right = function(question), f"{question.text}{question.answer}"
    fails, idle = f"raise NameError('{name}')\n", f"def {name}(*given):\n    return None\n"
    test, lesson = f"assert callable({name})\n", " I wrote nothing of use."
    return {
        "program": [question.answer],
        "program_self_refine": [idle, " It returns nothing.", right, " It does. The answer stands."],
        "program_reflexion_self": [test, fails, lesson, right],
        "program_resample_self": [test, idle],
        "program_reflexion": [test, idle, lesson, right],
        "program_resample": [fails, idle, fails, right],
    }


FIRST_AND_LAST = {
    "program": (None, 1.0),
    "program_self_refine": (0.0, 1.0),
    "program_reflexion_self": (0.0, 1.0),
    "program_resample_self": (0.0, 0.0),
    "program_reflexion": (0.0, 1.0),
    "program_resample": (0.0, 1.0),
}


@needs_bwrap
def test_humaneval_is_solved_at_last_by_methods_that_write_programs(data: Path, tmp_path: Path) -> None:
    humaneval = task(TaskSettings("humaneval", str(data)), tmp_path)
    some = humaneval.splits[Split.REPORT][::80]
    assert [question.id for question in some] == ["HumanEval/0", "HumanEval/80", "HumanEval/160"]
    said = {question.id: scripts(question) for question in some}
    (tmp_path / "tools.yaml").write_text("tools: [{kind: python, tier: bwrap}]\n")
    settings = ToolsSettings(config=str(tmp_path / "tools.yaml"))
    with adapter(settings, None, log=tmp_path / "log") as (url, token), ToolClient(url, settings, token) as tools:
        tools.check()
        for name, (first, last) in FIRST_AND_LAST.items():
            method = agent(name)

            def write(context: str, request, name: str = name) -> tuple[str, bool]:
                return said[request.key.question_id][name][request.key.call], False

            jobs = [Job(question, 0, 0, 0, "humaneval", "report", name) for question in some]
            made = list(
                rollout(
                    jobs,
                    lambda job, method=method: method.run(job.question.blind, method.prompt("base"), LIMITS),
                    {Role.ACTOR: ScriptedPolicy(ByteCodec(), write)},
                    WithOracle(tools, jobs, humaneval.score) if method.oracle else tools,
                    sampling=Sampling(),
                )
            )
            records = judge(made, {question.id: question for question in some}, humaneval.score, humaneval.voice)
            assert [(one.em_first, one.em) for one in records] == [(first, last)] * 3, name
            assert {call.content for one in made for call in one.tool_calls if call.tool == ORACLE} == (
                {WRONG, RIGHT} if method.oracle else set()
            )
            assert not any(one.masked for one in records)
            if first is not None:
                whole = row(name, records, task="humaneval", split="report", weights_digest="")
                assert whole.waves == len(said[some[0].id][name])


@pytest.mark.parametrize(("one", "other", "alike"), [("a + b", "a - b", False), ("a + b\n", "a + b", True)])
def test_a_vote_over_programs_goes_by_their_text(one: str, other: str, alike: bool, data: Path, tmp_path: Path) -> None:
    voice = task(TaskSettings("humaneval", str(data)), tmp_path).voice
    assert (voice(one) == voice(other)) is alike
