"""Replies that end an agent's work, whatever their text says."""

from __future__ import annotations

from dataclasses import dataclass

from rest_jax.core.effects import Finish, Generated, Outcome, Status, stopped


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


def malformed(reply: Generated, why: str) -> Outcome:
    """The outcome of a reply that holds no action: the model was cut short, or it wrote none."""
    if reply.finish is Finish.LENGTH:
        return stopped(Status.TOKEN_LIMIT, f"the turn's tokens were used up: {why}")
    return stopped(Status.MALFORMED, why)
