"""Ask a model one question, and follow it as it thinks, acts and observes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rest_jax.agents.registry import agent, as_method
from rest_jax.agents.search_agent.readings import attributions
from rest_jax.config.settings import ModelSettings, RestConfig
from rest_jax.core.effects import Agent, CallTool, Effect, Generate, Generated, Outcome, ToolReply
from rest_jax.core.errors import UserError
from rest_jax.core.events import Listener
from rest_jax.core.text import valid_unicode
from rest_jax.core.trajectory import Question, Trajectory
from rest_jax.models import catalog
from rest_jax.recipes.agent_file import agent_of, at_url, tools_of
from rest_jax.recipes.players import config_of_run, model_of
from rest_jax.recipes.stages import is_run
from rest_jax.recipes.workbench import RolloutSpec, Workbench, open_workbench, shots_there
from rest_jax.tasks.registry import task as open_task
from rest_jax.tasks.task import Task

Tell = Callable[[str, str], None]
"""Told (kind, text) for everything that happens; kind is model, tool, answer or source."""


def ask(
    model_or_run: str,
    question: str,
    tell: Callable[[str, str, str], None],
    *,
    compare: str | None = None,
    method: str | None = None,
    corpus: str | None = None,
    tools_url: str | None = None,
    offline: bool = False,
    emit: Listener,
) -> None:
    """Ask a model, or a run's last generation and the row `compare` beside it, one question; greedily, unless its agent
    has a temperature.

    `method` plays another agent than that of the run or model. `tell` is told (who, kind, text). A run is asked over
    its own task's corpus; a model over `corpus`, else Atlas's.
    Raises UserError for a question that is no valid Unicode (a command line in another encoding), and for an agent that
    has to be told whether its answers are right.
    """
    if question != valid_unicode(question):
        raise UserError("ask: the question is no valid Unicode text; type it in UTF-8")
    path = Path(model_or_run)
    if is_run(path):
        config = config_of_run(path)
        asked = {"last generation": model_of(model_or_run)}
        if compare is not None:
            asked[compare] = model_of(model_or_run, compare)
    elif compare is not None:
        raise UserError(
            f"ask: {path} is no run, so it has no row '{compare}'; name a run's folder, or leave out --compare"
        )
    else:
        home = catalog.resolve(model_or_run, offline=offline)
        config = RestConfig(model=ModelSettings(model_or_run), agent=agent_of(home), tools=tools_of(home))
        asked = {"": model_or_run}
    if method is not None:
        config = replace(config, agent=as_method(config.agent, method))
    if agent(config.agent.name).oracle:
        raise UserError(
            f"ask: agent '{config.agent.name}' has to be told whether its answers are right, and nobody knows; name "
            f"one that goes without, such as --agent rise or cot"
        )
    untrained = {config.model.name, *(student.name for student in config.students)}
    task = Task("corpus", Path(corpus), {}) if corpus else open_task(config.task)
    for who, model in asked.items():  # each on a workbench of its own: a student is another kind of model
        own = config.agent if model in untrained else agent_of(catalog.resolve(model, offline=offline))
        opened = open_workbench(
            task,
            model=replace(config.model, name=model),
            agent_settings=replace(config.agent, bare=own.bare, shots=shots_there(config.agent, task)),
            engine=replace(config.engine, rows=1, extend_rows=1, resident=None, replicas=1),
            tools=at_url(config.tools, tools_url),
            emit=emit,
            offline=offline,
            any_corpus=corpus is None,
        )
        listen = partial(tell, who)
        spec = RolloutSpec([Question("asked", question, "")], "asked", watch=partial(narrated, tell=listen))
        for trajectory in _played(opened, spec):
            cite(trajectory, listen)


def _played(opened: AbstractContextManager[Workbench], spec: RolloutSpec) -> list[Trajectory]:
    """The bench is gone when this returns, so that the next has its memory."""
    with opened as bench, tempfile.TemporaryDirectory(prefix="rest_jax-") as scratch:
        return bench.play(Path(scratch), bench.base, spec)


def cite(trajectory: Trajectory, tell: Tell) -> None:
    """Tell the passages that an answer of the search agent cites."""
    for link in attributions(trajectory):
        tell("source", f"{link.link_text}: {link.snippet}" if link.link_text else link.snippet)


def narrated(playing: Agent, tell: Tell) -> Agent:
    """The same agent, with `tell` listening: an agent is a generator, so whoever drives it can look on."""
    try:
        effect: Effect = next(playing)
        while True:
            result = yield effect
            _tell(effect, result, tell)
            effect = playing.send(result)
    except StopIteration as stop:
        outcome: Outcome = stop.value
        tell("answer", outcome.answer if outcome.answer is not None else f"{outcome.status.value}: {outcome.why}")
        return outcome


def _tell(effect: Effect, result: Any, tell: Tell) -> None:
    match effect, result:
        case Generate(), Generated():
            tell("model", result.text.strip())
        case CallTool(), ToolReply():
            tell(
                "tool", result.content if result.fault is None else f"{result.fault.kind.value}: {result.fault.message}"
            )
