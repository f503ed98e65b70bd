"""A rehearsal: demonstrations played without model and tools, to count what a trajectory will take."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from rest_jax.agents.attempts import is_attempt
from rest_jax.agents.detoxify import TOOL as TOXICITY
from rest_jax.agents.limits import Limits
from rest_jax.agents.play import TOOLS as GAME
from rest_jax.agents.program import PYTHON
from rest_jax.agents.registry import agent, as_method, tries_again
from rest_jax.agents.tested import PASSED
from rest_jax.config.settings import AgentSettings, EngineSettings, ImproveSettings, RestConfig
from rest_jax.core.demonstration import Demonstration
from rest_jax.core.effects import Role, Sampling, ToolReply
from rest_jax.core.errors import UserError
from rest_jax.core.policy import TextCodec
from rest_jax.core.trajectory import Trajectory, context_of
from rest_jax.policies.scripted import ScriptedPolicy
from rest_jax.recipes.floors import PLAYED
from rest_jax.recipes.plan import Lengths, Planned, plan
from rest_jax.recipes.workbench import beginnings, prompt_of
from rest_jax.rollout.episode import Job
from rest_jax.rollout.oracle import WithOracle
from rest_jax.rollout.runner import rollout
from rest_jax.sampling.beginnings import laid_out
from rest_jax.tasks.task import Task
from rest_jax.training.examples import examples_of

REHEARSED = 40
"""Demonstrations, the first of the task's own; of a task without any its worked examples."""
RESET, ACT = GAME
HARMLESS = ToolReply("0 % toxicity", {"score": 0.0, "attribute": "toxicity", "scores": {"toxicity": 0.0}})


def lengths(task: Task, codec: TextCodec, settings: AgentSettings) -> Lengths:
    """Tokens of a trajectory of these settings' agent, bare, as the task's gold demonstrations have them, or else its
    worked examples. Of a task that has neither they are guessed: every turn is as long as it may be, and so is what it
    is shown.

    What transcripts of one trajectory have in common is counted for each that does not continue another.
    """
    played = rehearsed(task, codec, settings, REHEARSED)
    if not played:
        most = settings.turns * Limits.of(settings, agent(settings.name).turn_tokens).turn_tokens
        return Lengths(sampled=most, prefilled=most)
    asked = [segment for one in played for call in one.calls for segment in call.segments]
    return Lengths(
        sampled=sum(one.model_tokens for one in played) / len(played),
        prefilled=sum(len(segment.ids or ()) for segment in asked) / len(played),
    )


def work(config: RestConfig, task: Task, codec: TextCodec) -> list[Planned]:
    """What a run will cost, by demonstrations played as the run's agent and as the other methods that it learns or
    measures."""

    @cache
    def of(method: str, candidates: int | None) -> Lengths:
        settings = replace(config.agent, candidates=candidates or config.agent.candidates)
        return lengths(task, codec, as_method(settings, method))

    return plan(config, of)


def bound(config: RestConfig) -> str:
    """What to say before the time that `work` takes: demonstrations are right at once, so of methods that try again
    where they are wrong it is the least."""
    return "at least" if any(map(tries_again, (*config.agent.methods, *config.evaluate.methods))) else "about"


def rehearsed(task: Task, codec: TextCodec, settings: AgentSettings, most: int) -> list[Trajectory]:
    """The task's first gold demonstrations, or else its worked examples, played bare by these settings' agent.

    A search finds the passage that was demonstrated, and that alone; what tells whether an answer will do says yes.
    """
    method, some = agent(settings.name), (task.sources.get("gold") or task.examples)[:most]
    prompt = method.prompt_for(AgentSettings(name=settings.name, also=settings.also, bare=True))
    limits = Limits.of(settings, method.turn_tokens, task.voice)
    jobs = [Job(demonstration.question, 0, 0, 0, task.name, "train", method.name) for demonstration in some]
    recalled = _Recalled({job.key: demonstration for job, demonstration in zip(jobs, some, strict=True)})
    return list(
        rollout(
            jobs,
            lambda job: method.run(job.question.blind, prompt, limits),
            {Role.ACTOR: ScriptedPolicy(codec, method.author(some, prompt))},
            WithOracle(recalled, jobs, task.score) if method.oracle else recalled,
            sampling=Sampling(),
        )
    )


def rehearse(config: RestConfig, task: Task, codec: TextCodec) -> None:
    """Raise UserError where none of a method's rehearsed demonstrations has room, with the prompt that is shown there:
    in the sampler's widest cache, or in a packed row of an Improve; and where there is nothing in them that
    `improve.weighting` could weight. A run would notice after its Grow.

    What searches show beyond the demonstrated passage is not counted, so what passes may still turn out too long.
    """

    def shown(method: str) -> list[tuple[int, ...]]:
        """The beginnings of a prompted model's transcripts."""
        return beginnings(prompt_of(config.agent, agent(method), task, codec), codec)

    if config.engine.shared:
        for together in _shared(config):
            laid_out([beginning for method in together for beginning in shown(method)], config.engine.shared)
    for name in config.evaluate.methods:
        played = rehearsed(task, codec, as_method(config.agent, name), REHEARSED)
        _refuse_long_contexts(config.engine, _longest_contexts(played), 0)
    for name in config.agent.methods:
        played = rehearsed(task, codec, as_method(config.agent, name), REHEARSED)
        _refuse_weightless(config, name, played)
        _refuse_long_method(config, codec, played, min(map(len, shown(name)), default=0))


def _shared(config: RestConfig) -> Iterator[Sequence[str]]:
    """The methods whose beginnings a rollout of the run shares, together: the prompted model's, the floors', and, of a
    pilot that keeps its prompt, those of Grows and of other rows."""
    yield [config.agent.name]
    yield from ([floor] for floor in config.evaluate.floors if floor in PLAYED)
    if not (config.pilot.demonstrations and config.pilot.improve.prompt == "bare"):
        yield config.agent.methods
        yield from ([method] for method in config.evaluate.methods)


def _refuse_long_method(config: RestConfig, codec: TextCodec, played: Sequence[Trajectory], begun: int) -> None:
    """`rehearse` for one method that is learned, whose shortest beginning has so many tokens."""
    contexts = _longest_contexts(played)
    examples = [len(example.ids) for one in played for example in examples_of(one, codec, prompt="bare")]
    bare = config.agent.bare
    if config.pilot.demonstrations:
        _refuse_long_examples("pilot.improve", config.pilot.improve, examples, 0)
        bare = bare or config.pilot.improve.prompt == "bare"
    for place, generation in enumerate(config.generations):
        improve, acts = generation.improve, generation.grow.policy == "actor"
        before = 0 if bare and acts else begun
        if acts:
            _refuse_long_contexts(config.engine, contexts, 0 if config.engine.shared else before)
        learned = before if improve.prompt == "same" else 0
        _refuse_long_examples(f"generations.{place}.improve", improve, examples, learned)
        bare = (config.agent.bare if improve.start == "base" else bare) or improve.prompt == "bare"


def _refuse_weightless(config: RestConfig, method: str, played: Sequence[Trajectory]) -> None:
    if any(is_attempt(call) for one in played for call in one.calls):
        return
    for place, generation in enumerate(config.generations):
        if generation.improve.weighting is not None:
            raise UserError(
                f"generations.{place}.improve.weighting: no call of agent '{method}' is an attempt that could be "
                f"weighted, so all would count the same; leave weighting out, or take one that attempts a question, "
                f"such as rise_collect or cot"
            )


def _longest_contexts(played: Sequence[Trajectory]) -> list[int]:
    return [max(len(_ids(one, call.index)) for call in one.calls) for one in played if one.calls]


def _refuse_long_contexts(engine: EngineSettings, contexts: Sequence[int], begun: int) -> None:
    shortest, longest = begun + min(contexts, default=0) + 1, begun + max(contexts, default=0) + 1
    if shortest > max(engine.widths):
        mend = ", or keep what all begin with apart with engine.shared" if begun else ""
        raise UserError(
            f"engine.widths: the widest is {max(engine.widths)}, demonstrations take {shortest} to {longest} tokens, "
            f"{begun} of them for instruction and worked examples; add a wider one{mend}"
        )


def _refuse_long_examples(where: str, improve: ImproveSettings, examples: Sequence[int], begun: int) -> None:
    shortest, longest = begun + min(examples, default=0), begun + max(examples, default=0)
    if shortest > improve.length:
        mend = ", or leave these out with prompt: bare" if begun else ""
        raise UserError(
            f"{where}.length: {improve.length} tokens hold no example; those of demonstrations have {shortest} to "
            f"{longest}, {begun} of them for instruction and worked examples; raise it{mend}"
        )


def _ids(trajectory: Trajectory, call: int) -> list[int]:
    return [id for segment in context_of(trajectory.calls, call) for id in segment.ids or ()]


class _Recalled:
    """Tools as a demonstration had them: a search shows again what it showed, in its order, and what judges is content
    at once, for who demonstrates is right."""

    stateful: frozenset[str] = frozenset()

    def __init__(self, demonstrations: Mapping[str, Demonstration]) -> None:
        self._demonstrations = demonstrations
        self._left = {episode: deque(_observed(demonstration)) for episode, demonstration in demonstrations.items()}
        self._commands = Counter[str]()
        self._ready: list[tuple[int, ToolReply]] = []

    def submit(self, id: int, tool: str, arguments: Mapping[str, Any], episode: str) -> None:
        self._ready.append((id, self._reply(tool, arguments, episode)))

    def end(self, episode: str) -> None:
        """What is left was demonstrated and not asked for."""

    def poll(self, timeout_s: float | None) -> list[tuple[int, ToolReply]]:
        ready, self._ready = self._ready, []
        return ready

    def _reply(self, tool: str, arguments: Mapping[str, Any], episode: str) -> ToolReply:
        demonstration, left = self._demonstrations[episode], self._left[episode]
        if tool == PYTHON:
            return _ran(arguments.get("code", ""), demonstration)
        if tool == TOXICITY:
            return HARMLESS
        if tool == RESET:
            return ToolReply("")
        if tool == ACT:
            self._commands[episode] += 1
            return _played(demonstration, self._commands[episode])
        return left.popleft() if left else ToolReply("")


def _observed(demonstration: Demonstration) -> Sequence[ToolReply]:
    replies = []
    for turn in demonstration.turns:
        if turn.observation is not None:
            title, _, text = turn.observation.partition(": ")
            replies.append(ToolReply(turn.observation, {"results": [{"title": title, "text": text}]}))
    return replies


def _ran(code: str, demonstration: Demonstration) -> ToolReply:
    """A program that came to its end, where it prints the answer, or that it passed its tests."""
    told = (demonstration.turns[-1].argument, PASSED)
    printed = next((words for words in told if code.rstrip().endswith(f"print({words!r})")), "")
    return ToolReply(printed or "(no output)", {"status": "ok", "stdout": printed})


def _played(demonstration: Demonstration, commands: int) -> ToolReply:
    """A game after so many commands: the last one that was demonstrated wins it."""
    over = commands >= len(demonstration.turns)
    return ToolReply(demonstration.turns[:commands][-1].observation or "", {"done": over, "won": over})
