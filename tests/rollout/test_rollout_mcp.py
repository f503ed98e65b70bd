"""An MCP server, written with its own SDK, driven by ReAct: a real server, a real adapter process, a real agent."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from rollout_world import ByteCodec

from rest_jax.agents.demonstration import author
from rest_jax.agents.limits import Limits
from rest_jax.agents.registry import agent
from rest_jax.config.settings import ToolsSettings
from rest_jax.core.demonstration import Demonstration, Turn
from rest_jax.core.effects import Role, Sampling, Status
from rest_jax.core.trajectory import Question
from rest_jax.policies.scripted import ScriptedPolicy
from rest_jax.rollout.episode import Job
from rest_jax.rollout.runner import rollout
from rest_jax.tools.client import ToolClient
from rest_jax.tools.process import adapter

pytest.importorskip("mcp", reason="extra `mcp` is not installed")

SERVER = Path(__file__).parents[1] / "tools" / "mcp_server.py"
DEMONSTRATIONS = [
    Demonstration(
        Question(f"q{i}", f"Where was the founder of Vell born ({i})?", "Sarn"),
        (
            Turn("I need Vell.", "search", "Vell"),
            Turn("I need who founded it.", "lookup", "founded"),
            Turn("I need Ada Orr.", "search", "Ada Orr"),
            Turn("She was born in Sarn.", "finish", "Sarn"),
        ),
    )
    for i in range(20)
]


def test_react_over_an_mcp_server(tmp_path: Path):
    config = tmp_path / "tools.yaml"
    command = [sys.executable, str(SERVER), str(tmp_path / "notes")]
    config.write_text(f"tools: [{{kind: mcp, name: articles, command: {json.dumps(command)}}}]\n")
    settings = ToolsSettings(config=str(config))
    react, codec = agent("react"), ByteCodec()
    prompt = react.prompt("base", chat=None).bare()
    limits = Limits(turns=5, turn_tokens=128, observation_chars=400)
    policy = ScriptedPolicy(codec, author(DEMONSTRATIONS, react.lines, prompt))
    jobs = [Job(shown.question, 0, 0, 0, "toy", "train", "react") for shown in DEMONSTRATIONS]
    with (
        adapter(settings, tmp_path / "none", log=tmp_path / "tools.log") as (url, token),
        ToolClient(url, settings, token) as tools,
    ):
        served = tools.check()["tools"]
        made = list(
            rollout(
                jobs,
                lambda job: react.run(job.question, prompt, limits),
                {Role.ACTOR: policy},
                tools,
                sampling=Sampling(),
            )
        )
    assert {"search", "lookup"} <= set(served)
    assert len(made) == len(jobs)
    for trajectory in made:
        assert (trajectory.status, trajectory.answer, trajectory.attempts) == (Status.FINISHED, "Sarn", 1)
        assert [call.tool for call in trajectory.tool_calls] == ["search", "lookup", "search"]
        assert [call.content for call in trajectory.tool_calls] == [
            "Vell: Vell <|im_end|> is a town. Ada Orr founded it in 1204.",
            "(Result 1 / 1) Ada Orr founded it in 1204.",
            "Ada Orr: Ada Orr was born in Sarn. She founded Vell.",
        ]
        assert {call.tool_version[:4] for call in trajectory.tool_calls} == {"mcp-"}
