"""A method of one's own is one small file, and then a name like others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import toy_method

import rest_jax
from rest_jax.agents import registry
from rest_jax.agents.cot import cot
from rest_jax.agents.gates import gold, own_word
from rest_jax.agents.limits import Limits
from rest_jax.agents.react import react
from rest_jax.agents.reflexion import reflexion
from rest_jax.agents.replay import replay
from rest_jax.config.loader import loaded
from rest_jax.config.settings import AgentSettings, RestConfig
from rest_jax.core.demonstration import Demonstration, Turn
from rest_jax.core.effects import Candidate, Finish, Generated, Sampling, finished
from rest_jax.core.errors import UserError
from rest_jax.core.events import silent
from rest_jax.core.identity import identity
from rest_jax.core.keys import KeyPath
from rest_jax.core.policy import Request
from rest_jax.core.trajectory import Question
from rest_jax.recipes import loop
from rest_jax.recipes.stages import Done, open_run
from rest_jax.tasks.task import Task

QUESTION = Question("q1", "Who founded Vell?", "Orr")
DEMONSTRATION = Demonstration(QUESTION, (Turn("It is Orr.", "finish", "Orr"),))


@pytest.fixture
def registered() -> Iterator[registry.AnyMethod]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_REGISTERED", {})
        rest_jax.register_method(toy_method.METHOD)
        yield registry.agent("second_thought")


def test_a_method_of_ones_own_takes_fewer_than_sixty_lines() -> None:
    assert len(Path(toy_method.__file__).read_text().splitlines()) < 60


def test_a_registered_method_plays(registered: registry.AnyMethod) -> None:
    settings = AgentSettings(name="second_thought", shots=1)
    prompt = registered.prompt_for(settings, [DEMONSTRATION])
    replies = [Generated((Candidate((1,), (-1.0,), text, Finish.STOP, "\n"),)) for text in (" Or", " Orr")]
    limits = Limits.of(settings, registered.turn_tokens)
    outcome, asked = replay(registered.run(QUESTION, prompt, limits), replies)
    assert outcome == finished("Orr")
    assert asked[0].transcript.text == (
        "Answer each question in a few words.\n\n"
        "Question: Who founded Vell?\nAnswer: Orr\nObservation: Are you sure? Say it again, or better.\nAnswer: Orr\n\n"
        "Question: Who founded Vell?\nAnswer:"
    )
    write = registered.author([DEMONSTRATION], registered.prompt_for(replace(settings, bare=True)))
    request = Request(1, 1, (), KeyPath(0, 0, "q1", 0, 0, 1, 0), 32, ("\n",), Sampling())
    assert write("", request) == (" Orr", True)


def test_a_registered_name_is_taken(registered: registry.AnyMethod) -> None:
    rest_jax.register_method(replace(toy_method.METHOD, instruction="Answer."))  # defined again: it replaces itself
    assert registry.agent("second_thought") != registered
    taken = "the name is taken; choose another for register_method"
    with pytest.raises(UserError, match=f"agent 'react': {taken}"):
        rest_jax.register_method(replace(toy_method.METHOD, name="react"))
    with pytest.raises(UserError, match=f"agent 'second_thought': {taken}"):
        rest_jax.register_method(replace(registry.agent("closed_book"), name="second_thought"))
    with pytest.raises(UserError, match="did you mean 'second_thought'"):
        registry.agent("second_though")


def test_another_attempt_under_a_name_is_another_method(registered: registry.AnyMethod) -> None:
    mine = replace(registry.agent("cot_reflexion"), name="mine")
    rest_jax.register_method(replace(mine, run=reflexion(cot, gold)))
    rest_jax.register_method(replace(mine, run=reflexion(cot, gold, memory=1)))  # a cell that was edited
    for run in (reflexion(react, gold), reflexion(cot, own_word), partial(cot)):
        with pytest.raises(UserError, match="agent 'mine': the name is taken"):
            rest_jax.register_method(replace(mine, run=run))
    rest_jax.register_method(replace(mine, name="part", run=partial(cot)))
    assert isinstance(registry.agent("part").run, partial)


def test_a_stage_is_made_from_the_methods_code_and_all_that_it_was_given(
    registered: registry.AnyMethod, tmp_path: Path
) -> None:
    config = RestConfig(agent=AgentSettings(name="mine"))
    bench: Any = SimpleNamespace(task=Task("none", tmp_path / "corpus.jsonl", {}))
    mine = replace(registry.agent("cot_reflexion"), name="mine", run=reflexion(cot, gold))
    edited = [
        replace(mine, run=reflexion(cot, gold, memory=1)),
        replace(mine, instruction="Answer."),
        replace(mine, lines=toy_method.lines),
        replace(mine, steps="reflexion.yaml"),
        replace(mine, turn_tokens=65),
    ]
    with open_run(tmp_path / "run", loaded(config), {}, silent) as run:

        def stage() -> Done:
            return loop.Loop(config, 0, run, bench).stage("some", {}, lambda folder: {})

        rest_jax.register_method(mine)
        assert stage().inputs["method_source"] == identity(mine)
        for other in edited:
            rest_jax.register_method(other)
            with pytest.raises(UserError, match="made from another method_source; remove this folder"):
                stage()
        rest_jax.register_method(replace(mine, run=reflexion(cot, gold)))
        assert stage().inputs["method_source"] == identity(mine)


def test_the_packages_own_methods_are_known_by_their_names(tmp_path: Path) -> None:
    """So the folders of their runs go on whatever is said here of one's own."""
    config = RestConfig(agent=AgentSettings(name="reflexion", also=("cot",)))
    bench: Any = SimpleNamespace(task=Task("none", tmp_path / "corpus.jsonl", {}))
    with open_run(tmp_path / "run", loaded(config), {}, silent) as run:
        done = loop.Loop(config, 0, run, bench).stage("some", {}, lambda folder: {})
    assert "method_source" not in done.inputs


def test_who_edits_a_method_of_ones_own_has_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its code decides what a stage makes, as the package's own does."""
    monkeypatch.syspath_prepend(tmp_path)
    source = Path(toy_method.__file__).read_text()
    identities = set()
    for name, text in (("toy_a", source), ("toy_b", source), ("toy_c", source.replace("Are you sure?", "Really?"))):
        (tmp_path / f"{name}.py").write_text(text)
        identities.add(identity(__import__(name).METHOD))
    assert len(identities) == 2
    assert identity(toy_method.METHOD) in identities
