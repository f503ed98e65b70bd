"""Effects: everything that an agent may ask of the world, and what it gets back.

An agent is a generator of effects (`Agent`). It yields one effect, receives its outcome, and at the end returns an
`Outcome`. It never touches a model, a socket or a clock, so a recorded list of outcomes replays it exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rest_jax.core.transcript import Transcript


class Role(StrEnum):
    """Which of the run's policies answers a call."""

    ACTOR = "actor"
    JUDGE = "judge"
    TEACHER = "teacher"


class Choose(StrEnum):
    """How one of n candidates becomes the reply; all of them are stored."""

    FIRST = "first"
    LOWEST_PERPLEXITY = "lowest_perplexity"
    """The smallest mean negative log-prob per token (ReST meets ReAct, section 3.2)."""


Rule = Callable[[Sequence["Candidate"]], int]
"""An agent's own way to choose, a pure function: candidates → the place of the one that becomes the reply."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. The values are data on the device: changing them never recompiles."""

    temperature: float = 1.0
    """0 is greedy."""
    top_k: int = 0
    """Keep the k likeliest tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the smallest set of tokens whose probability reaches this."""
    min_p: float = 0.0
    """Keep the tokens at least this many times as likely as the likeliest; 0 keeps all."""


@dataclass(frozen=True)
class Generate:
    """Ask a policy to continue a transcript. The outcome is a `Generated`."""

    transcript: Transcript
    step: str
    """The step kind, such as `act`, `reflect`, `check`: the name under which the call is stored."""
    max_tokens: int
    stop: tuple[str, ...] = ()
    """The reply ends before the first of these; an end-of-sequence token ends it too."""
    n: int = 1
    choose: Choose | Rule = Choose.FIRST
    """How one of the n becomes the reply; an agent that has to look into them brings a rule of its own."""
    role: Role = Role.ACTOR
    trial: int = 0
    """Which attempt at the question the call belongs to, from 0 (Reflexion's trials, RISE's turns); part of its random
    key and of what is stored."""
    sampling: Sampling | None = None
    """None: the run's setting."""


@dataclass(frozen=True)
class Score:
    """Ask for the log-probs of given continuations of a transcript. The outcome is a `Scored`."""

    transcript: Transcript
    continuations: tuple[str, ...]
    step: str = "score"
    role: Role = Role.ACTOR


@dataclass(frozen=True)
class CallTool:
    """Call a tool of the adapter process. The outcome is a `ToolReply`."""

    tool: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class All:
    """Several effects at once. The outcome is the tuple of theirs, in order."""

    effects: tuple[Effect, ...]


Leaf = Generate | Score | CallTool
Effect = Leaf | All


class Finish(StrEnum):
    """Why a policy stopped."""

    STOP = "stop"
    EOS = "eos"
    LENGTH = "length"
    """The call's `max_tokens` were used up."""
    CONTEXT = "context"
    """The transcript fills the policy's context: there is no room for another token."""
    NONFINITE = "nonfinite"
    """The model produced a NaN; the candidate holds the tokens before it."""


@dataclass(frozen=True)
class Candidate:
    """One continuation.

    `ids` are the kept tokens: up to and including the token in which the stop string begins, or the end-of-sequence
    token. `logprobs` are f32, untempered, over the full vocabulary, one per id; None when the author is not the
    policy itself. `text` ends before the stop; `overhang` is what the kept tokens hold beyond it.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...] | None
    text: str
    finish: Finish
    overhang: str = ""
    why: str = field(default="", compare=False)
    """Of a reply that ended as NONFINITE: at which token, and what is to blame; of one that had no room: which limit.
    It is for the agent's outcome, and not stored here."""

    @property
    def mean_logprob(self) -> float:
        """Mean log-prob per token; minus infinity when there is none (so that it never wins a choice)."""
        return sum(self.logprobs) / len(self.logprobs) if self.logprobs else float("-inf")


@dataclass(frozen=True)
class Generated:
    """The outcome of `Generate`: n candidates, and which one is the reply."""

    candidates: tuple[Candidate, ...]
    chosen: int = 0

    @property
    def reply(self) -> Candidate:
        return self.candidates[self.chosen]

    @property
    def text(self) -> str:
        return self.reply.text

    @property
    def finish(self) -> Finish:
        return self.reply.finish


@dataclass(frozen=True)
class Scored:
    """The outcome of `Score`: for each continuation its token ids and their f32 log-probs."""

    ids: tuple[tuple[int, ...], ...]
    logprobs: tuple[tuple[float, ...], ...]
    why: str = field(default="", compare=False)
    """Why the first continuation that has neither got none, as `Candidate.why` says it; not stored."""


class ToolErrorKind(StrEnum):
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    BAD_ARGUMENTS = "bad_arguments"
    TOOL_ERROR = "tool_error"
    INFRA = "infra"
    REPLAY_MISS = "replay_miss"

    @property
    def is_infrastructure(self) -> bool:
        """True when the agent is not to blame: such a trajectory is masked, counted and retried, never scored 0."""
        return self not in (ToolErrorKind.BAD_ARGUMENTS, ToolErrorKind.TOOL_ERROR)


@dataclass(frozen=True)
class ToolFault:
    kind: ToolErrorKind
    message: str


NOT_FOUND = "Could not find"
NO_MORE = "No more results"
"""How the content of a search or a lookup begins that found nothing (ReAct's words; a tool of one's own says the
same). What follows may only echo what was asked."""


ORACLE = "oracle"
"""The tool by which a run tells an agent whether its answer is right, where the method says that it asks: the agent
learns one bit, and the trajectory shows that it did."""
RIGHT = "right"
WRONG = "wrong"

WON = "won"
LOST = "lost"
"""How a game ended, by what it says itself: the answer of who played it."""


def passages(data: Mapping[str, Any]) -> list[tuple[str, str]] | None:
    """What a search found: (title, text) of each of `data["results"]`, passages (`title`, `text`) or pages (`title`,
    `snippet`). None where there is no such list. Tools are hostile: what has another shape is left out or empty."""
    results = data.get("results")
    if not isinstance(results, list):
        return None
    some = [one for one in results if isinstance(one, Mapping)]
    return [(_words(one.get("title")), _words(one.get("text", one.get("snippet")))) for one in some]


def _words(value: Any) -> str:
    return value if isinstance(value, str) else ""


@dataclass(frozen=True)
class ToolReply:
    """The outcome of `CallTool`. `content` is what the model may see; `data` is for the agent's own use."""

    content: str
    data: Mapping[str, Any] = field(default_factory=dict)
    fault: ToolFault | None = None
    tool_version: str = ""

    @property
    def ok(self) -> bool:
        return self.fault is None


class Status(StrEnum):
    """How a trajectory ended."""

    FINISHED = "finished"
    STEP_LIMIT = "step_limit"
    TOKEN_LIMIT = "token_limit"
    CONTEXT_LIMIT = "context_limit"
    MALFORMED = "malformed"
    TOOL_FAILURE = "tool_failure"
    """Infrastructure failed: masked in every mean, counted, retried."""
    NONFINITE = "nonfinite"
    AGENT_ERROR = "agent_error"
    """The agent's own code raised; the message is in `why`."""

    @property
    def is_masked(self) -> bool:
        """True for endings that say nothing about the policy: they carry no reward."""
        return self in (Status.TOOL_FAILURE, Status.NONFINITE, Status.AGENT_ERROR)


@dataclass(frozen=True)
class Outcome:
    """What an agent returns."""

    status: Status
    answer: str | None = None
    why: str = ""
    candidate: int | None = None
    """Which candidate of the last call that drew several gave the answer, where an agent learned it only after its
    choice; None: the chosen one."""


def finished(answer: str, candidate: int | None = None) -> Outcome:
    return Outcome(Status.FINISHED, answer, candidate=candidate)


def stopped(status: Status, why: str = "") -> Outcome:
    return Outcome(status, None, why)


Agent = Generator[Effect, Any, Outcome]


def leaves(effect: Effect) -> tuple[Leaf, ...]:
    """The effects that an effect consists of, in order; `All` may hold `All`."""
    if isinstance(effect, All):
        return tuple(leaf for part in effect.effects for leaf in leaves(part))
    return (effect,)


def outcome_of(effect: Effect, results: Iterator[Any]) -> Any:
    """An effect's outcome from those of its leaves."""
    if isinstance(effect, All):
        return tuple(outcome_of(part, results) for part in effect.effects)
    return next(results)


def choose(candidates: Sequence[Candidate], how: Choose | Rule) -> int:
    """The candidate that becomes the reply; the first of equals. ValueError for a rule that chooses none of them."""
    if not isinstance(how, Choose):
        if (chosen := how(candidates)) not in range(len(candidates)):
            raise ValueError(f"the rule chose candidate {chosen} of {len(candidates)}")
        return chosen
    if how is Choose.FIRST:
        return 0
    return max(range(len(candidates)), key=lambda at: (candidates[at].mean_logprob, -at))
