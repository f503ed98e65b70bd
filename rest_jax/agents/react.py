"""ReAct: reason, act, observe, in one growing transcript (Yao et al. 2023, section 2)."""

from __future__ import annotations

from rest_jax.agents.actions import Finish, Lookup, Search, action_text, parse_action
from rest_jax.agents.endings import Malformed, broken_off, failed, malformed
from rest_jax.agents.limits import Limits, cut
from rest_jax.agents.prompt import Line, Prompt
from rest_jax.core import effects
from rest_jax.core.demonstration import Demonstration
from rest_jax.core.effects import Agent, CallTool, Generate, Status, ToolReply, finished, passages, stopped
from rest_jax.core.trajectory import Question

CUE = "Thought:"


def react(question: Question, prompt: Prompt, limits: Limits) -> Agent:
    """Answer a question by searching. Each turn is one call of step `act`, then one tool call unless it finishes.

    After the cue `Action:` the same agent is Act: its turns are actions alone.
    """
    transcript = prompt.open(question.text)
    page: str | None = None
    looked_up: list[str] = []
    for _ in range(limits.turns):
        reply = yield Generate(transcript, step="act", max_tokens=limits.turn_tokens, stop=prompt.stop)
        if (outcome := broken_off(reply)) is not None:
            return outcome
        match parse_action(prompt.cue + reply.text):
            case Finish(answer):
                return finished(answer)
            case Malformed(why):
                return malformed(reply, why)
            case Search(query):
                result = yield CallTool("search", {"query": query})
                page = _first_title(result)
                looked_up = []
            case Lookup(keyword):
                if page is None:
                    result = ToolReply("Nothing to look in yet: use Search first.")
                else:
                    arguments = {"title": page, "keyword": keyword, "index": looked_up.count(keyword.lower())}
                    result = yield CallTool("lookup", arguments)
                    looked_up.append(keyword.lower())
        if (outcome := failed(result)) is not None:
            return outcome
        closed = reply.finish is effects.Finish.EOS
        transcript = prompt.observe(transcript.said(reply), shown(result, limits), closed=closed)
    return stopped(Status.STEP_LIMIT, f"no answer within {limits.turns} turns")


def react_lines(demonstration: Demonstration) -> tuple[Line, ...]:
    """A demonstration's turns, a line each: ` thought Action: Verb[argument]`."""
    return tuple(
        Line(" " + " ".join(f"{turn.thought} {action_text(turn.action, turn.argument)}".split()), turn.observation)
        for turn in demonstration.turns
    )


def _first_title(result: ToolReply) -> str | None:
    """The page that a search opened; None when it found none."""
    found = passages(result.data)
    return found[0][0] or None if found else None


def shown(result: ToolReply, limits: Limits) -> str:
    """What the model is shown: the tool's words, cut to length (the prompt writes them on one line), or its mistake."""
    text = result.content if result.fault is None else f"Error: {result.fault.message}"
    return cut(text, limits.observation_chars)
