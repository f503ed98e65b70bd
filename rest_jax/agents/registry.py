"""The agents by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal, Protocol

from rest_jax.agents import (
    act,
    attempts,
    back_off,
    closed_book,
    cot,
    cot_sc,
    critic,
    detoxify,
    gates,
    parallel,
    play,
    program,
    question_as_query,
    react,
    reflexion,
    rise,
    self_refine,
    tested,
)
from rest_jax.agents.demonstration import Lines, author, shot
from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import Prompt, chat_of
from rest_jax.agents.prompt_files import prompt_file
from rest_jax.agents.search_agent.method import SearchAgent
from rest_jax.agents.steps import steps_of
from rest_jax.config.settings import AgentSettings
from rest_jax.core.chat import ChatFormat
from rest_jax.core.demonstration import Demonstration
from rest_jax.core.effects import Agent
from rest_jax.core.errors import UserError
from rest_jax.core.identity import identity, places
from rest_jax.core.trajectory import Question
from rest_jax.core.transcript import Segment
from rest_jax.policies.scripted import Author


class AnyPrompt(Protocol):
    """What a run asks of a method's prompt; what else there is, is between the prompt and its agent."""

    @property
    def stop(self) -> tuple[str, ...]:
        """What ends a reply, beside an end-of-sequence token."""
        ...

    @property
    def ends_every_turn(self) -> bool:
        """Whether a demonstrated reply ends with an end-of-sequence token; if not, only the last one does."""
        ...

    @property
    def beginnings(self) -> tuple[tuple[Segment, ...], ...]:
        """What transcripts open with that show worked examples: it is computed once for all of them."""
        ...

    @property
    def asks(self) -> tuple[str, ...]:
        """The questions of the worked examples that it shows: none of them may be asked."""
        ...


class AnyMethod(Protocol):
    """A way to answer questions, as a run knows it. `Method` is one whose prompt is lines; `register_method` takes any.

    `prompt_for` gives the prompt that `run` and `author` are given.
    """

    @property
    def name(self) -> str: ...

    @property
    def tools(self) -> tuple[str, ...]:
        """The tools that it calls: an adapter without them would fail it, call by call, as by its own mistake."""
        ...

    @property
    def candidates(self) -> bool:
        """Whether it samples `agent.candidates` replies for each step, and goes by their log-probs to choose one."""
        ...

    @property
    def trainable(self) -> bool:
        """Whether a model can be trained to be it: a demonstration says what each of its calls says, and what a call is
        for shows without instruction and worked examples."""
        ...

    @property
    def oracle(self) -> bool:
        """Whether it asks the run if its answers are right (the tool `oracle`), which knows the gold answers."""
        ...

    @property
    def tries(self) -> bool:
        """Whether it may attempt a question several times, so that its first attempt is a number of its own."""
        ...

    @property
    def turn_tokens(self) -> int:
        """The most tokens of one turn, where the settings say none."""
        ...

    @property
    def own_shots(self) -> bool:
        """Whether it brings its worked examples itself; else they are the task's."""
        ...

    @property
    def run(self) -> Callable[[Question, Any, Limits], Agent]:
        """The agent."""
        ...

    def prompt_for(
        self, settings: AgentSettings, shots: Sequence[Demonstration] = (), chat: ChatFormat | None = None
    ) -> AnyPrompt:
        """The prompt of these settings, with the task's worked examples, for a model with this chat format; `bare`
        ones have neither instruction nor examples. Where there are others that the model is to be (`also`), prompts say
        of which method they are, unless bare ones show that. UserError when a model without a chat format is to chat.
        """
        ...

    def author(self, demonstrations: Sequence[Demonstration], prompt: Any) -> Author:
        """Who says in the model's place what demonstrations say (`agents.demonstration.author`)."""
        ...


@dataclass(frozen=True)
class Method:
    """An agent whose turns are lines, or blocks of them, and how it is prompted."""

    name: str
    run: Callable[[Question, Prompt, Limits], Agent]
    instruction: str
    """What tells a prompted model what to do: the words themselves, or the name of a file in `prompts/`, `NAME.txt`."""
    cue: str
    lines: Lines
    """How it writes a demonstration as a worked example, and says it in the model's place."""
    tools: tuple[str, ...] = ()
    """The tools that it calls: an adapter without them would fail it, call by call, as by its own mistake."""
    candidates: bool = False
    """It samples `agent.candidates` replies for each step, and goes by their log-probs to choose one."""
    trainable: bool = True
    """A demonstration says what each of its calls says, and what a call is for shows in a bare prompt."""
    oracle: bool = False
    """It asks the run whether its answers are right: what it scores is an oracle's result."""
    tries: bool = False
    """It may attempt a question several times, so that its first attempt is a number of its own."""
    turn_tokens: int = 64
    """The most tokens of one turn, where the settings say none."""
    script: Lines | None = None
    """What all of its calls say of a demonstration, in their order, where its other steps speak too; None: `lines`."""
    steps: str = ""
    """Its other steps, in YAML (`agents/steps.py`): the words themselves, or the name of a file in `prompts/`,
    `NAME.yaml`; empty when it has none."""
    first: str = ""
    """The step of that file which is its attempt, of a method that brings its instruction and worked examples itself;
    empty where the examples are the task's."""
    beside: tuple[str, ...] | None = None
    """Its other steps by name, where the file has more; None: all."""

    @property
    def own_shots(self) -> bool:
        return bool(self.first)

    def prompt(
        self,
        style: Literal["base", "chat"],
        shots: Sequence[Demonstration] = (),
        chat: ChatFormat | None = None,
        own: int | None = None,
    ) -> Prompt:
        """The method's instruction and worked examples in this style; `Prompt.bare` leaves both out. `own`: how many
        examples each of its steps shows at most; None: as many as there are `shots`.

        Raises UserError when a model without a chat format is to chat.
        """
        instruction = prompt_file(self.instruction) if self.instruction.endswith(".txt") else self.instruction
        steps = prompt_file(self.steps) if self.steps.endswith(".yaml") else self.steps
        worked = tuple(shot(demonstration, self.lines) for demonstration in shots)
        chat = chat_of(style, chat)
        told = steps_of(steps, len(worked) if own is None else own, chat) if steps else {}
        attempt = told.pop(self.first) if self.first else Prompt(self.cue, instruction, worked, chat)
        wanted = told if self.beside is None else self.beside
        return replace(attempt, beside={name: told[name] for name in wanted})

    def prompt_for(
        self, settings: AgentSettings, shots: Sequence[Demonstration] = (), chat: ChatFormat | None = None
    ) -> Prompt:
        """The prompt of these settings; `AnyMethod` says more."""
        prompt = self.prompt(settings.style, shots, chat, settings.shots if self.own_shots else None)
        prompt = prompt.saying(self.name) if settings.also else prompt
        return prompt.bare() if settings.bare else prompt

    def author(self, demonstrations: Sequence[Demonstration], prompt: Prompt) -> Author:
        """Who says what these demonstrations say, turn by turn."""
        return author(demonstrations, self.script or self.lines, prompt)


_REACT = Method("react", react.react, "react.txt", react.CUE, react.react_lines, tools=("search", "lookup"))
_COT = Method("cot", cot.cot, cot.INSTRUCTION, cot.CUE, cot.cot_lines)
_CRITIC = replace(
    _COT,
    name="critic",
    run=critic.critic(cot.cot, searching=True),
    script=critic.critic_lines,
    tools=("search",),
    steps="critic.yaml",
    tries=True,
)
_PROGRAM = Method(
    "program",
    program.program,
    "",
    program.PROGRAM,
    program.program_lines,
    steps="programs.yaml",
    first="write",
    beside=(),
)
_TESTED = replace(_PROGRAM, script=tested.tested_lines(program.program_lines), tools=(program.PYTHON,), tries=True)
_POT = Method(
    "pot",
    program.program_of_thought,
    "",
    program.PROGRAM,
    program.program_of_thought_lines,
    tools=(program.PYTHON,),
    steps="program_of_thought.yaml",
    first="write",
    beside=(),
)
_POT_CRITIC = replace(
    _POT,
    name="pot_critic",
    run=critic.critic(program.program_of_thought),
    script=critic.confirmed(_POT.lines),
    beside=("criticise", "correct"),
    tries=True,
)


def _retried(attempt: Method, prefix: str, steps: str) -> Iterator[Method]:
    """Reflexion over a method, and its control, each behind both gates."""
    for suffix, gate, oracle in (("", gates.gold, True), ("_self", gates.own_word, False)):
        script = attempt.lines if oracle else attempts.vouched(attempt.lines)
        behind = replace(attempt, script=script, steps=steps, oracle=oracle, tries=True)
        learning, drawing = reflexion.reflexion(attempt.run, gate), reflexion.resample(attempt.run, gate)
        yield replace(behind, name=f"{prefix}reflexion{suffix}", run=learning)
        yield replace(behind, name=f"{prefix}resample{suffix}", run=drawing, steps="" if oracle else steps)


_RISE = (
    replace(_COT, name="rise", run=rise.rise(rise.AGAIN), script=rise.rise_lines, tries=True),
    replace(_COT, name="rise_neutral", run=rise.rise(rise.NEUTRAL), script=rise.rise_lines, tries=True),
    replace(_COT, name="rise_parallel", run=rise.rise(rise.AGAIN, memory=0), script=rise.rise_lines, tries=True),
    replace(_COT, name="rise_collect", run=rise.rise_collect, candidates=True, oracle=True, tries=True),
)

_PROGRAMS = (
    _PROGRAM,
    replace(
        _PROGRAM,
        name="program_self_refine",
        run=self_refine.self_refine(program.program),
        script=attempts.vouched(_PROGRAM.lines),
        beside=("feedback", "refine"),
        tries=True,
    ),
    replace(
        _TESTED,
        name="program_reflexion",
        run=tested.testing(lambda attempt: reflexion.reflexion(attempt, gates.gold)),
        beside=("test", "reflect"),
        oracle=True,
    ),
    replace(
        _PROGRAM,
        name="program_resample",
        run=reflexion.resample(program.program, gates.gold),
        oracle=True,
        tries=True,
    ),
    replace(
        _TESTED,
        name="program_reflexion_self",
        run=tested.testing(lambda attempt: reflexion.reflexion(attempt, tested.own_tests)),
        beside=("test", "reflect"),
    ),
    replace(
        _TESTED,
        name="program_resample_self",
        run=tested.testing(lambda attempt: reflexion.resample(attempt, tested.own_tests)),
        beside=("test",),
    ),
    _POT,
    replace(
        _POT,
        name="pot_parallel",
        run=parallel.parallel(program.program_of_thought),
        script=parallel.each_time(_POT.lines),
        tries=True,
    ),
    replace(
        _POT,
        name="pot_self_refine",
        run=self_refine.self_refine(program.program_of_thought),
        script=attempts.vouched(_POT.lines),
        beside=("feedback", "refine"),
        tries=True,
    ),
    _POT_CRITIC,
    replace(
        _POT_CRITIC,
        name="pot_critic_without_tool",
        run=critic.critic(program.program_of_thought, showing=False),
        steps="program_of_thought_without_tool.yaml",
    ),
    replace(
        _POT_CRITIC,
        name="pot_critic_oracle",
        run=critic.critic(program.program_of_thought, gate=gates.gold),
        script=_POT.lines,
        oracle=True,
    ),
)

_PLAY = Method(
    "play", play.play, "", react.CUE, play.play_lines, tools=play.TOOLS, steps="play.yaml", first="play", beside=()
)
_PLAYS = (
    _PLAY,
    replace(
        _PLAY, name="play_reflexion", run=reflexion.reflexion(play.play, gates.won), beside=("reflect",), tries=True
    ),
    replace(_PLAY, name="play_resample", run=reflexion.resample(play.play, gates.won), tries=True),
)

_DETOXIFY = Method(
    "detoxify",
    detoxify.detoxify(detoxify.by_tool),
    "",
    detoxify.CUE,
    detoxify.text_lines,
    tools=(detoxify.TOOL,),
    steps="detoxify.yaml",
    first="continue",
    beside=("rewrite",),
    tries=True,
)

_METHODS: tuple[AnyMethod, ...] = (
    _REACT,
    Method("closed_book", closed_book.closed_book, "closed_book.txt", closed_book.CUE, closed_book.closed_book_lines),
    replace(_REACT, name="question_as_query", run=question_as_query.question_as_query, tools=("search",)),
    SearchAgent(),
    Method("act", react.react, "act.txt", act.CUE, act.act_lines, tools=("search", "lookup")),
    _COT,
    replace(_COT, name="cot_sc", run=cot_sc.cot_sc),
    replace(_REACT, name="react_to_cot_sc", run=back_off.react_to_cot_sc, trainable=False),
    replace(_REACT, name="cot_sc_to_react", run=back_off.cot_sc_to_react, trainable=False),
    replace(
        _COT,
        name="self_refine",
        run=self_refine.self_refine(cot.cot),
        script=attempts.vouched(_COT.lines),
        steps="self_refine.yaml",
        tries=True,
    ),
    _CRITIC,
    replace(
        _CRITIC,
        name="critic_without_tool",
        run=critic.critic(cot.cot),
        script=critic.confirmed(_COT.lines),
        tools=(),
        steps="critic_without_tool.yaml",
    ),
    replace(_CRITIC, name="critic_oracle", run=critic.critic(cot.cot, searching=True, gate=gates.gold), oracle=True),
    *_retried(_REACT, "", "reflexion.yaml"),
    *_retried(_COT, "cot_", "cot_reflexion.yaml"),
    *_RISE,
    *_PROGRAMS,
    *_PLAYS,
    _DETOXIFY,
    replace(
        _DETOXIFY,
        name="detoxify_without_tool",
        run=detoxify.detoxify(detoxify.by_own_word),
        script=attempts.vouched(detoxify.text_lines),
        tools=(),
        beside=None,
    ),
)
NAMES = tuple(method.name for method in _METHODS)
"""Those that come with the package."""

_REGISTERED: dict[str, tuple[AnyMethod, str]] = {}
"""By name: a method, and its identity as it was registered."""


def register_method(method: AnyMethod) -> None:
    """Make a method available as `agent.name: NAME`; one that is defined again, as in a notebook, replaces itself.

    Raises UserError for a name that is taken by another.
    """
    before, _ = _REGISTERED.get(method.name, (method, ""))
    if method.name in NAMES or places(before.run) != places(method.run):
        raise UserError(f"agent '{method.name}': the name is taken; choose another for register_method")
    _REGISTERED[method.name] = method, identity(method)


def registered_identities(names: Iterable[str]) -> list[str]:
    """What decides a stage that plays these methods beside their names: the identities of a user's own."""
    return [_REGISTERED[name][1] for name in names if name in _REGISTERED]


def _known() -> Iterator[AnyMethod]:
    yield from _METHODS
    yield from (method for method, _ in _REGISTERED.values())


def agent(name: str) -> AnyMethod:
    """The method of this name. Raises UserError when there is none."""
    known = {method.name: method for method in _known()}
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise UserError(f"no agent called '{name}'; {hint}known are {', '.join(known)}")


def tries_again(name: str) -> bool:
    """Whether a method of this name is known, and may attempt a question several times."""
    return any(method.tries for method in _known() if method.name == name)


def method_of(settings: AgentSettings, *, learns: bool = False, textual: bool = False) -> AnyMethod:
    """The method of these settings, which is able to do all that they ask of it.

    `learns`: a model is to be trained to be it, and the others that they name; `textual`: a policy is to play it that
    tells no log-probs. Raises UserError for what it is not able to: at a command's start rather than in its results.
    """
    method = agent(settings.name)
    others = [agent(name) for name in settings.also] if learns else []
    if settings.candidates > 1 and not any(one.candidates for one in (method, *others)):
        raise UserError(
            f"agent.candidates: agent '{method.name}' does not choose among {settings.candidates} replies of a step; "
            f"leave candidates out, or take one that does, such as search_agent"
        )
    if settings.candidates > 1 and textual:
        raise UserError(
            f"agent.candidates: one of {settings.candidates} replies is chosen by log-probs, and policies.teacher "
            f"answers in text alone; name its tokenizer if it returns token ids, or leave candidates out"
        )
    for one in (method, *others):
        if not one.trainable and (learns or settings.bare):
            raise UserError(
                f"agent '{one.name}': only instruction and worked examples tell it what a call is for, so no model is "
                f"trained to be it; measure a prompted one with `rest-jax eval --agent {one.name} --shots N`"
            )
    return method


def as_method(settings: AgentSettings, name: str) -> AgentSettings:
    """These settings for another method: with one candidate of a step where it does not choose among several."""
    return replace(settings, name=name, candidates=settings.candidates if agent(name).candidates else 1)
