"""Text that another author says in the model's place, as the ids that the model itself would have made of it."""

from __future__ import annotations

from rest_jax.core.effects import Finish
from rest_jax.core.policy import Request, TextCodec


def spoken_ids(codec: TextCodec, request: Request, text: str, *, ends: bool) -> tuple[tuple[int, ...], Finish]:
    """The ids of a reply, and its finish where no stop string completes in them.

    The text is encoded as untrusted: no text is a way to a control token but the end. A reply that ends for good
    carries the codec's end-of-turn id; any other is followed by the request's first stop string, if it has one.
    """
    if ends:
        return (*codec.encode_untrusted(text), codec.end_of_turn_id), Finish.EOS
    return codec.encode_untrusted(text + "".join(request.stop[:1])), Finish.LENGTH
