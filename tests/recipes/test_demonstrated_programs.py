"""A warm start for methods that search nothing: demonstrations are written, run, rewarded and learned."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rest_jax.agents.limits import Limits
from rest_jax.agents.registry import agent
from rest_jax.config.loader import loaded
from rest_jax.config.settings import AgentSettings, RestConfig, TaskSettings, ToolsSettings
from rest_jax.core.demonstration import Demonstration, Turn
from rest_jax.core.effects import Role, Sampling
from rest_jax.core.events import silent
from rest_jax.core.trajectory import Question, ToolCall
from rest_jax.policies.scripted import ScriptedPolicy
from rest_jax.recipes import loop
from rest_jax.recipes.stages import open_run
from rest_jax.recipes.workbench import TRAJECTORIES
from rest_jax.rollout import store
from rest_jax.rollout.episode import Job
from rest_jax.rollout.runner import rollout
from rest_jax.tasks.registry import task as open_task
from rest_jax.tasks.splits import Split
from rest_jax.tasks.task import Task
from rest_jax.tools.client import ToolClient
from rest_jax.tools.process import adapter
from rest_jax.training.examples import examples_of
from tests.rollout.rollout_world import ByteCodec
from tests.trajectories import trajectory


def test_sums_in_words_are_learned_as_programs_that_print_them(tmp_path: Path) -> None:
    """No search shows their answer: a program's output is the script's own."""
    task, method, codec = open_task(TaskSettings("arithmetic"), tmp_path), agent("pot"), ByteCodec()
    some = task.demonstrations("gold", 3, seed=0)
    prompt, limits = method.prompt("base").bare(), Limits(turns=8, turn_tokens=64, observation_chars=400)
    (tmp_path / "tools.yaml").write_text("tools: [{kind: python, tier: monty}]\n")
    settings = ToolsSettings(config=str(tmp_path / "tools.yaml"))
    config = RestConfig(agent=AgentSettings(name="pot"), task=TaskSettings("arithmetic"))
    with adapter(settings, None, log=tmp_path / "log") as (url, token), ToolClient(url, settings, token) as tools:
        tools.check()

        def demonstrate(folder: Path, demonstrations: Any, split: str) -> Any:
            made = list(
                rollout(
                    [Job(one.question, 0, 0, 0, task.name, split, "pot") for one in demonstrations],
                    lambda job: method.run(job.question.blind, prompt, limits),
                    {Role.ACTOR: ScriptedPolicy(codec, method.author(demonstrations, prompt))},
                    tools,
                    sampling=Sampling(),
                )
            )
            store.write(folder / TRAJECTORIES, made)
            return made

        bench: Any = SimpleNamespace(task=task, emit=silent, demonstrate=demonstrate)
        with open_run(tmp_path / "run", loaded(config), {}, silent) as run:
            grown = loop.Loop(config, 0, run, bench).demonstrate("demonstrations", some)
    answers = {one.question_id: one.answer for one in grown.trajectories}
    assert answers == {one.question.id: one.question.answer for one in some}
    assert sorted(grown.rewards.values()) == [1.0, 1.0, 1.0]
    for one in grown.trajectories:
        (example,) = examples_of(one, codec, prompt="bare")
        learned = codec.decode(example.ids[example.learn])
        assert learned.startswith("# ")
        assert learned.endswith(f"\nprint({one.answer!r})\n")


@pytest.mark.parametrize(
    ("name", "asked", "answer", "told", "worth"),
    [
        ("detoxify", "The man", "had his keys.", ToolCall(0, "toxicity", {"text": "had his keys."}, "0 % toxicity"), 1),
        ("play", "Game 3", "won", ToolCall(0, "act", {"command": "open door"}, "You are out.", data={"done": True}), 1),
        ("react", "Where?", "Oslo", ToolCall(0, "search", {"query": "Oslo"}, "Bergen: a town."), 0),
    ],
)
def test_only_who_searches_has_to_find_the_answer(
    name: str, asked: str, answer: str, told: ToolCall, worth: float, tmp_path: Path
) -> None:
    """A score of a text and a game's end show no answer; the metric alone says whether it is right."""
    question = Question("q", asked, answer)
    demonstration = Demonstration(question, (Turn("", "finish", answer),))
    made = trajectory(question=asked, agent=name, answer=answer, tool_calls=(told,))
    config = RestConfig(agent=AgentSettings(name=name))
    task = Task("toy", None, {Split.TRAIN: (question,)}, {"gold": (demonstration,)})

    def demonstrate(folder: Path, demonstrations: Any, split: str) -> Any:
        store.write(folder / TRAJECTORIES, [made])
        return [made]

    bench: Any = SimpleNamespace(task=task, emit=silent, demonstrate=demonstrate)
    with open_run(tmp_path / "run", loaded(config), {}, silent) as run:
        grown = loop.Loop(config, 0, run, bench).demonstrate("demonstrations", [demonstration])
    assert grown.rewards == {made.id: worth}
