"""Replies that end an agent's work, whatever their text says."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rest_jax.core.effects import Finish, Generated, Outcome, Status, ToolReply, stopped


@dataclass(frozen=True)
class Malformed:
    """A reply that holds nothing that its agent could go on with."""

    why: str


def broken_off(reply: Generated) -> Outcome | None:
    """The outcome of a reply that ended for want of room or of numbers; None for one whose text may be read."""
    match reply.finish:
        case Finish.CONTEXT:
            return stopped(Status.CONTEXT_LIMIT, "the transcript fills the model's context")
        case Finish.NONFINITE:
            return stopped(Status.NONFINITE, reply.reply.why or "the model produced a NaN")
    return None


def spoiled(reply: Generated) -> Outcome | None:
    """The outcome of a reply one of whose candidates says nothing of the policy: to choose among the others would be
    another method's."""
    each = (broken_off(replace(reply, chosen=place)) for place in range(len(reply.candidates)))
    return next((outcome for outcome in each if outcome is not None and outcome.status.is_masked), None)


def failed(reply: ToolReply) -> Outcome | None:
    """The outcome of a tool's reply that says nothing of who called it; None for one that may be shown."""
    if reply.fault is None or not reply.fault.kind.is_infrastructure:
        return None
    return stopped(Status.TOOL_FAILURE, reply.fault.message)


def malformed(reply: Generated, why: str) -> Outcome:
    """The outcome of a reply that holds no action: the model was cut short, or it wrote none."""
    if reply.finish is Finish.LENGTH:
        return stopped(Status.TOKEN_LIMIT, f"the turn's tokens were used up: {why}")
    return stopped(Status.MALFORMED, why)
