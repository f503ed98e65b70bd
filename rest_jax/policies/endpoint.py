"""A policy behind an OpenAI-compatible endpoint: vLLM, SGLang, or a hosted model."""

from __future__ import annotations

import queue
from concurrent.futures import Future
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from typing import Any

from rest_jax.config.policies import EndpointSettings
from rest_jax.core.background import BackgroundLoop
from rest_jax.core.canonical import digest
from rest_jax.core.chat import ChatFormat
from rest_jax.core.effects import Candidate
from rest_jax.core.errors import UserError
from rest_jax.core.policy import Failed, Request, ScoreRequest, TextCodec
from rest_jax.policies import wire
from rest_jax.policies.dialect import PROBE, Asked, Dialect, made_by
from rest_jax.policies.replies import Replies
from rest_jax.policies.transport import Lost, NoRoom, Transport
from rest_jax.policies.wire import Answer, Usage

NAME_CHARS = 80
"""How much of a name that the endpoint gives is quoted."""
WAIT_S = 0.002
"""The longest that a step waits: another policy may have a device to keep busy."""
_NO_USAGE = Usage()


@dataclass(frozen=True)
class _Ended:
    """What became of requests that were sent together."""

    asked: tuple[Asked, ...]
    answers: tuple[Answer, ...] | Failed
    usage: Usage = _NO_USAGE


class EndpointPolicy:
    """Implements `core.policy.Policy` on an endpoint, for use by one thread; its requests run in another.

    What it cannot do again it remembers: every reply is in `replies` before anybody gets it, and what is there is not
    asked for. Where the endpoint's tokenizer is known and is the player's, prompts and replies are ids and come with
    their log-probs; elsewhere they are text (`Dialect`).
    """

    sessions = 8192
    """Episodes that are open at once; of their requests `concurrency` are in flight, the others wait here."""

    def __init__(self, settings: EndpointSettings, codec: TextCodec, replies: Replies, *, own: TextCodec | None = None):
        """`codec`: that of whoever plays with it. `own`: the tokenizer of the endpoint's model, where its settings name
        one. Nothing is asked before `check`. Raises UserError when the key's environment variable holds none."""
        self.own = own
        self.weights_digest = digest({"endpoint": settings.model})
        self.usage = Usage()
        """Of all replies, as the endpoint counts; those that were recorded cost nothing."""
        self._settings = settings
        self._replies = replies
        self._failing = False
        """Whether the request failed that ended last."""
        self._open: dict[int, int] = {}
        """Requests that have not ended, with their sessions."""
        self._waiting: list[Asked] = []
        self._ready: list[_Ended] = []
        self._ended: queue.SimpleQueue[_Ended | BaseException] = queue.SimpleQueue()
        self._flights: dict[Future[None], int] = {}
        """Requests in flight, with their session."""
        self._loop = BackgroundLoop("endpoint")
        try:
            self._transport = None if settings.replay is not None else self._loop.wait_for(self._opened())
        except BaseException:
            self._loop.close()
            replies.close()
            raise
        self.speak(codec)

    def speak(self, codec: TextCodec, chat: ChatFormat | None = None) -> None:
        """From now on the transcripts are those of a player with this codec; `chat`: the turns that they are written
        in, None for plain text."""
        self.codec = codec
        self._dialect = Dialect(self._settings, codec, self.own is not None and self.own.digest == codec.digest, chat)

    def check(self) -> None:
        """Asks the endpoint for its models and, where its tokenizer is named, for the ids of a text.

        Raises UserError when nobody answers, when it serves no such model, or when its tokens are others.
        """
        if self._transport is not None:
            self._loop.wait_for(_checked(self._transport, self._settings, self.own))

    def look(self) -> None:
        """Raises UserError when a request has failed, none has been answered since, and nobody is there any more."""
        if self._failing and self._transport is not None:
            try:
                self._loop.wait_for(self._transport.look())
            except Lost as error:
                raise _gone(error) from error

    @property
    def busy(self) -> bool:
        return bool(self._open)

    def submit(self, request: Request | ScoreRequest) -> None:
        """Queues a request. Raises UserError for a score that the endpoint cannot give, and for a reply that is not
        among those to replay."""
        if isinstance(request, ScoreRequest) and not self._dialect.exact:
            raise UserError(
                f"the agent has text scored by '{self._settings.model}', an endpoint that answers in text; name its "
                f"tokenizer (policies.…tokenizer) if it returns token ids, or let the run's own model score"
            )
        self._open[request.id] = request.session
        recorded = self._replies.get(self._dialect.key(request))
        if recorded is not None:
            self._ready.append(_Ended((request,), (recorded,)))
        elif self._dialect.room(request) < 1:
            self._ready.append(_Ended((request,), (Answer("", "context"),)))
        elif self._transport is None:
            raise UserError(
                f"{self._replies.path}: holds no reply to what the run asks now; replay the run that it was recorded "
                f"in, or leave policies.…replay out to ask the endpoint"
            )
        else:
            self._waiting.append(request)

    def step(self) -> list[tuple[int, Candidate | Failed]]:
        """Sends what waits, and returns what has come; it waits for that a moment at most.

        Raises UserError for what the endpoint refuses and no retry mends.
        """
        self._send()
        ended, self._ready = self._ready, []
        refusal: BaseException | None = None
        while not self._ended.empty() or not ended:
            try:
                one = self._ended.get(timeout=WAIT_S)
            except queue.Empty:
                break
            if isinstance(one, BaseException):
                refusal = one
                break
            self._failing = isinstance(one.answers, Failed)
            ended.append(one)
        self._flights = {flight: session for flight, session in self._flights.items() if not flight.done()}
        results = [result for one in ended for result in self._results(one)]
        if results:
            self._replies.commit()
        if refusal is not None:  # what came before it is recorded
            raise refusal
        return results

    def release(self, session: int) -> None:
        """Drops a session's requests, those in flight included."""
        self._open = {id: owner for id, owner in self._open.items() if owner != session}
        self._waiting = [asked for asked in self._waiting if asked.session != session]
        for flight in [flight for flight, owner in self._flights.items() if owner == session]:
            flight.cancel()

    def close(self) -> None:
        """Gives up what is in flight and closes the connections."""
        if self._loop.closed:
            return
        self._loop.cancel_all()
        if self._transport is not None:
            self._loop.wait_for(self._transport.close())
        self._loop.close()
        self._replies.close()

    def _send(self) -> None:
        """Candidates of one call travel in one request, unless they are greedy: those are equal, and servers refuse to
        sample them together."""
        groups: dict[Asked, list[Asked]] = {}
        for asked in self._waiting:
            alike = asked
            if isinstance(asked, Request) and asked.sampling.temperature > 0:
                alike = replace(asked, id=0, key=replace(asked.key, candidate=0))
            groups.setdefault(alike, []).append(asked)
        self._waiting = []
        for group in map(tuple, groups.values()):
            self._flights[self._loop.start(self._fly(self._dialect, group))] = group[0].session

    def _results(self, ended: _Ended) -> list[tuple[int, Candidate | Failed]]:
        self.usage += ended.usage
        found: list[tuple[int, Candidate | Failed]] = []
        for place, asked in enumerate(ended.asked):
            if self._open.pop(asked.id, None) is None:
                continue
            if isinstance(ended.answers, Failed):
                found.append((asked.id, ended.answers))
            else:
                self._replies.put(self._dialect.key(asked), ended.answers[place])
                found.append((asked.id, self._dialect.candidate(asked, ended.answers[place])))
        return found

    # What follows runs on the loop's thread.

    async def _opened(self) -> Transport:
        return Transport(self._settings)

    async def _fly(self, dialect: Dialect, asked: tuple[Asked, ...]) -> None:
        assert self._transport is not None
        try:
            self._ended.put(await _ask(self._transport, dialect, asked))
        except NoRoom:
            self._ended.put(_Ended(asked, (Answer("", "context"),) * len(asked)))
        except Lost as error:
            self._ended.put(_Ended(asked, Failed(str(error))))
        except Exception as error:  # a refusal, or a defect of ours: whoever steps must not wait for ever
            self._ended.put(error)


async def _ask(transport: Transport, dialect: Dialect, asked: tuple[Asked, ...]) -> _Ended:
    answers: list[Answer] = []
    usage = Usage()
    while len(answers) < len(asked):  # some servers know of no `n`, and give one reply
        first = asked[len(answers)]
        path, body = dialect.body(first, len(asked) - len(answers))
        found, used = await transport.ask(path, body, partial(_read, dialect, first), dialect.settings.retries)
        answers += found
        usage += used
    return _Ended(asked, tuple(answers[: len(asked)]), usage)


def _read(dialect: Dialect, asked: Asked, response: Any) -> tuple[list[Answer], Usage]:
    return dialect.answers(asked, response), wire.usage_of(response)


async def _checked(transport: Transport, settings: EndpointSettings, own: TextCodec | None) -> None:
    where = f"the endpoint at {settings.url}"
    try:
        names = await transport.ask("/models", None, wire.models_of)
        shown = await transport.ask("/completions", wire.probe(settings, PROBE), wire.prompt_ids_of) if own else ()
    except (Lost, NoRoom) as error:
        raise _gone(error) from error
    if names and not any(name == settings.model or name.endswith(f"/{settings.model}") for name in names):
        near = get_close_matches(settings.model, names, n=1) or names[:5]
        told = ", ".join(name[:NAME_CHARS] for name in near)
        raise UserError(f"{where} serves no model '{settings.model}'; it has {told}")
    if shown is None:
        raise UserError(f"{where} returns no token ids (vLLM 0.10.2 and later do); leave its tokenizer out")
    if own is not None and not made_by(own, shown):
        raise UserError(f"{where} has another tokenizer than '{settings.tokenizer}'; name its own, or leave it out")


def _gone(error: Exception) -> UserError:
    return UserError(f"{error}; start it, or correct its url, then repeat the command")
