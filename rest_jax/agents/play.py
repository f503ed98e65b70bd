"""Playing a text game: reason, act, observe, until it is over (ReAct on ALFWorld, Yao et al. 2023, section 4).

reset → act ⇄ the game's answer → won, lost, or out of turns

The tools `reset` and `act` are the game (docs/tools.md), which says itself when it is over and whether it was won: that
is the answer. So who retries lost games (Reflexion) needs no gold answer to see that they were.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rest_jax.agents.endings import broken_off, failed, malformed
from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import OBSERVATION, Line, Prompt
from rest_jax.agents.react import shown
from rest_jax.core.demonstration import Demonstration
from rest_jax.core.effects import (
    LOST,
    WON,
    Agent,
    CallTool,
    Finish,
    Generate,
    Status,
    finished,
    stopped,
)
from rest_jax.core.trajectory import Question

TOOLS = ("reset", "act")
_COMMAND = re.compile(r"\baction:(.*)", re.IGNORECASE | re.DOTALL)
_NUMBER = re.compile(r"\d{1,9}")


def play(question: Question, prompt: Prompt, limits: Limits) -> Agent:
    """Play the game whose number the question names, at most `limits.turns` commands. Each turn is one call of step
    `play`, a thought and a command on one line. ValueError for a question without a number."""
    number = _NUMBER.search(question.text)
    if number is None:
        raise ValueError(f"{question.text!r} names no game; ask for one by its number, such as `Game 7`")
    begun = yield CallTool("reset", {"game": int(number[0])})
    if begun.fault is not None:  # a game that is not there says nothing of who would have played it
        return stopped(Status.TOOL_FAILURE, begun.fault.message)
    transcript = prompt.telling((OBSERVATION, shown(begun, limits))).open(question.text)
    for _ in range(limits.turns):
        reply = yield Generate(transcript, step="play", max_tokens=limits.turn_tokens, stop=prompt.stop)
        if (outcome := broken_off(reply)) is not None:
            return outcome
        command = _COMMAND.search(reply.text)
        if command is None or not command[1].strip():
            return malformed(reply, "no action of the form Action: command")
        result = yield CallTool("act", {"command": command[1].strip()})
        if (outcome := failed(result)) is not None:
            return outcome
        if (end := standing(result.data)) is not None:
            return finished(end)
        transcript = prompt.observe(transcript.said(reply), shown(result, limits), closed=reply.finish is Finish.EOS)
    return stopped(Status.STEP_LIMIT, f"not won within {limits.turns} turns")


def standing(data: Mapping[str, Any]) -> str | None:
    """How a game ended, by what it tells of itself: won or lost; None while it goes on."""
    if not data.get("done"):
        return None
    return WON if data.get("won") else LOST


def play_lines(demonstration: Demonstration) -> tuple[Line, ...]:
    """A demonstration's turns, a line each, whose arguments are commands: ` thought Action: command`."""
    return tuple(
        Line(" " + " ".join(f"{turn.thought} Action: {turn.argument}".split()), turn.observation)
        for turn in demonstration.turns
    )
