"""Replies that end an agent's work, whatever their text says."""

from __future__ import annotations

from rest_jax.core.effects import Finish, Generated, Outcome, Status, stopped


def broken_off(reply: Generated) -> Outcome | None:
    """The outcome of a reply that ended for want of room or of numbers; None for one whose text may be read."""
    match reply.finish:
        case Finish.CONTEXT:
            return stopped(Status.CONTEXT_LIMIT, "the transcript fills the model's context")
        case Finish.NONFINITE:
            return stopped(Status.NONFINITE, reply.reply.why or "the model produced a NaN")
    return None
