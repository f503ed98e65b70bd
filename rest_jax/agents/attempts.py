"""Methods that attempt a question several times: what ends them, and what each attempt answered."""

from __future__ import annotations

import re

from rest_jax.agents.actions import Finish, parse_action
from rest_jax.agents.cot import answer_of
from rest_jax.agents.demonstration import Lines
from rest_jax.agents.endings import broken_off
from rest_jax.agents.play import standing
from rest_jax.agents.program import PROGRAM, printed, program_of
from rest_jax.agents.prompt import Line
from rest_jax.core.effects import ORACLE, Generated, Outcome, Role
from rest_jax.core.trajectory import Call, Trajectory

STANDS = "The answer stands."
"""The last sentence of a verdict that finds nothing wrong."""
_STANDS = re.compile(r"(?:^|[.!?:;])\s*the answer stands[.!]?\s*$", re.IGNORECASE)
TEXTS = frozenset({"continue", "rewrite"})
"""Steps whose replies are the answer as they stand."""
CHAINS = frozenset({"think", "refine", "correct"})
"""Steps whose replies are chains of thought, but for those that open a program."""


def stands(verdict: str) -> bool:
    """Whether a verdict ends with `STANDS`, a sentence of its own."""
    return _STANDS.search(verdict) is not None


def vouched(lines: Lines) -> Lines:
    """A demonstration is right at once, and the model's own word says so."""
    return lambda demonstration: (*lines(demonstration), Line(f" {STANDS}"))


def latest(before: Outcome, now: Outcome) -> Outcome:
    """The later of two outcomes: an attempt without an answer takes none away, unless it says nothing of the policy."""
    return before if now.answer is None and before.answer is not None and not now.status.is_masked else now


def attempts(trajectory: Trajectory) -> tuple[str | None, ...]:
    """What each attempt answered, in order (None: nothing); empty for methods whose steps are of other kinds.

    A call's `trial` says which attempt it belongs to. The trajectory's own answer is the *last* one that counts; what
    the *majority* of attempts says and whether *any* was right are other questions (`evaluation.records`).
    """
    answers: dict[int, str | None] = {}
    for call in trajectory.calls:
        if is_attempt(call):
            answers[call.trial] = answered(trajectory, call)
    return tuple(answers.values())


def looks_back(trajectory: Trajectory) -> bool:
    """Whether a trajectory attempted its question several times, or looked back at an attempt to see whether it has
    to."""
    told = any(call.tool == ORACLE for call in trajectory.tool_calls)
    looked_back = told or not all(is_attempt(call) for call in trajectory.calls)
    answers = attempts(trajectory)
    return len(answers) > 1 or (len(answers) == 1 and looked_back)


def is_attempt(call: Call) -> bool:
    """Whether an actor's call is part of an attempt, rather than of looking back at one."""
    return call.role is Role.ACTOR and (call.step in ("act", "play", "write") or call.step in CHAINS | TEXTS)


def answered(trajectory: Trajectory, call: Call) -> str | None:
    """What an attempt's call answers by its chosen candidate; None where it answers nothing. A program that was run as
    it stands answers what it printed, a command what became of its game."""
    if call.step == "play":
        return next((standing(tool.data) for tool in trajectory.tool_calls if tool.after == call.index), None)
    said = call.candidates[call.chosen]
    cue = "".join(segment.text for segment in call.segments[-1:])  # Act's is `Action:`
    if cue.endswith(PROGRAM):
        code = program_of(said)
        runs = (tool for tool in trajectory.tool_calls if tool.arguments.get("code") == code)
        return next((printed(run.data) for run in runs), code)
    if call.step in CHAINS:
        return answer_of(said)
    if call.step in TEXTS:
        return " ".join(said.text.split()) or None
    if broken_off(Generated(call.candidates, call.chosen)) is not None:
        return None
    action = parse_action(cue + said.text)
    return action.answer if isinstance(action, Finish) else None
