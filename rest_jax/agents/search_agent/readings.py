"""What a stored trajectory of the search agent holds beside its answer: the draft, and the links that the answer cites.

Pure functions of the calls, so that a table of the answers before self-critique (Aksitov et al. 2023, table 4) needs
no new rollout.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from rest_jax.agents.search_agent.links import links_of
from rest_jax.agents.search_agent.replies import read_reply
from rest_jax.agents.search_agent.values import CHECKS, Answer, ResultItem, Revise_Answer, Step, cited, plain
from rest_jax.core.effects import Status, ToolReply
from rest_jax.core.trajectory import Trajectory


def draft_answer(trajectory: Trajectory) -> str | None:
    """The answer before it was checked, without its citations; None where none was drafted."""
    written = _answers(trajectory)
    return plain(written[0]) if written else None


def drafted(trajectory: Trajectory) -> Trajectory:
    """The trajectory as it would have ended without the checks: with its draft, also where a check could not be read.
    One that drafted nothing stays as it is, and so does a masked one: what failed during its checks says nothing of
    them, and counts neither before nor after."""
    draft = None if trajectory.status.is_masked else draft_answer(trajectory)
    return trajectory if draft is None else replace(trajectory, answer=draft, status=Status.FINISHED, why="")


def attributions(trajectory: Trajectory) -> tuple[ResultItem, ...]:
    """The links, among all that its searches found, that the last answer cites, in the order in which they were found;
    none where there is no answer. Their texts are whole."""
    written = _answers(trajectory)
    ids = cited(written[-1]) if written else frozenset()
    links: list[ResultItem] = []
    for call in trajectory.tool_calls:
        reply = ToolReply(call.content, call.data, call.fault)
        links += links_of(reply, len(links) + 1, sys.maxsize)
    return tuple(link for link in links if link.link_id in ids)


def _answers(trajectory: Trajectory) -> list[str]:
    """The draft, and what the checks made of it."""
    answers = []
    for call in trajectory.calls:
        if call.step in (Step.DRAFT, *CHECKS):
            match read_reply(Step(call.step), call.candidates[call.chosen].text):
                case Answer(answer=answer) | Revise_Answer(revised_answer=answer):
                    answers.append(answer)
    return answers
