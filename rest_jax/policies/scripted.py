"""A policy whose words come from a function: for demonstrations, ceilings and tests of everything around a model."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from rest_jax.core.effects import Candidate, Finish
from rest_jax.core.policy import Request, ScoreRequest, TextCodec
from rest_jax.policies.spoken import spoken_ids
from rest_jax.sampling.stops import candidate

Author = Callable[[str, Request], tuple[str, bool]]
"""(the context's text, the request) -> (what to say, whether the reply ends there for good)."""


class ScriptedPolicy:
    """Says what `author` says, token by token as an engine would: stops, overhang and budget included.

    Log-probs are None: nobody sampled this.
    """

    sessions = 1 << 30

    def __init__(self, codec: TextCodec, author: Author, *, weights_digest: str = "scripted"):
        self.codec = codec
        self.weights_digest = weights_digest
        self._author = author
        self._queue: deque[Request] = deque()

    @property
    def busy(self) -> bool:
        return bool(self._queue)

    def submit(self, request: Request | ScoreRequest) -> None:
        """Queues a request. ValueError for a `ScoreRequest`: a script knows no probabilities."""
        if isinstance(request, ScoreRequest):
            raise ValueError(f"request {request.id}: a scripted policy cannot score; ask a policy with a model")
        self._queue.append(request)

    def step(self) -> list[tuple[int, Candidate]]:
        """Answers the oldest request."""
        if not self._queue:
            return []
        request = self._queue.popleft()
        return [(request.id, self._answer(request))]

    def release(self, session: int) -> None:
        self._queue = deque(request for request in self._queue if request.session != session)

    def _answer(self, request: Request) -> Candidate:
        text, ends = self._author(self.codec.decode(request.ids), request)
        ids, finish = spoken_ids(self.codec, request, text, ends=ends)
        if len(ids) > request.max_tokens:
            ids, finish = ids[: request.max_tokens], Finish.LENGTH
        return candidate(self.codec, request.stop, ids, None, finish)
