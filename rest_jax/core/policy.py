"""What the rollout needs of a policy and of a tokenizer, whoever they are: our engine, a remote one, a script."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from rest_jax.core.chat import ChatFormat
from rest_jax.core.effects import Candidate, Role, Sampling
from rest_jax.core.errors import UserError
from rest_jax.core.keys import KeyPath
from rest_jax.core.transcript import Segment


class TextCodec(Protocol):
    """A tokenizer with the difference between trusted and untrusted text."""

    @property
    def digest(self) -> str:
        """sha256 over what decides ids: ids are authoritative only for the tokenizer of this digest."""
        ...

    @property
    def vocab_size(self) -> int: ...

    @property
    def bos_ids(self) -> tuple[int, ...]:
        """Ids that open every transcript (empty for many models)."""
        ...

    @property
    def eos_ids(self) -> frozenset[int]:
        """Ids that end a reply."""
        ...

    @property
    def end_of_turn_id(self) -> int:
        """The one of `eos_ids` with which a turn ends that nobody sampled: a demonstration's, for instance."""
        ...

    @property
    def control_ids(self) -> frozenset[int]:
        """Every added, control or user-defined id: none of them may come from untrusted text."""
        ...

    @property
    def chat(self) -> ChatFormat | None:
        """The model's chat turns; None when it has no chat template."""
        ...

    def encode_trusted(self, text: str) -> tuple[int, ...]:
        """Ids of the agent's own text; control tokens in it are control tokens. Never adds BOS or EOS."""
        ...

    def encode_untrusted(self, text: str) -> tuple[int, ...]:
        """Ids of text that anyone may have written; contains no id of `control_ids`, whatever the text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, control tokens left out; bytes that are no UTF-8 become U+FFFD."""
        ...

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for; empty for control tokens."""
        ...


@dataclass(frozen=True)
class Request:
    """One candidate to be sampled: the whole context as ids, and how to go on.

    Requests of one `session` that share a beginning share its computation: the policy may keep the row of a session
    parked between requests and extend it by what is new. `release(session)` gives the rows back.
    """

    id: int
    session: int
    ids: tuple[int, ...]
    key: KeyPath
    max_tokens: int
    stop: tuple[str, ...]
    sampling: Sampling
    role: Role = Role.ACTOR
    segments: tuple[Segment, ...] = ()
    """The same context as the agent wrote it, who said what, for a policy that speaks in text."""


@dataclass(frozen=True)
class ScoreRequest:
    """Log-probs wanted of `continuation` after `ids`."""

    id: int
    session: int
    ids: tuple[int, ...]
    continuation: tuple[int, ...]
    role: Role = Role.ACTOR


@dataclass(frozen=True)
class Failed:
    """In a candidate's place: infrastructure failed, and the trajectory begins again or is masked."""

    why: str


class Policy(Protocol):
    """Continues token sequences. Single-threaded: the caller submits, then steps until it has what it wants."""

    codec: TextCodec
    weights_digest: str

    @property
    def sessions(self) -> int:
        """How many sessions may be open at once."""
        ...

    def submit(self, request: Request | ScoreRequest) -> None:
        """Queue a request. A context that leaves no room ends as `Finish.CONTEXT`, never as an exception."""
        ...

    def step(self) -> Sequence[tuple[int, Candidate | Failed]]:
        """Work for one block; returns (request id, candidate) of those that ended. Empty when there is no work.

        A `ScoreRequest` ends as a candidate whose ids are the continuation and whose log-probs are theirs.
        """
        ...

    @property
    def busy(self) -> bool:
        """True while a submitted request has not ended."""
        ...

    def release(self, session: int) -> None:
        """The session ended: its requests still under way are dropped and its rows are free again."""
        ...


def replies(policy: Policy, requests: Iterable[Request | ScoreRequest]) -> Iterator[tuple[int, Candidate]]:
    """(request id, candidate) of requests each of which is a session of its own, as they end. As many are under way as
    the policy takes; each one's row is given back when it ends. UserError when infrastructure fails one."""
    waiting, sessions = iter(requests), dict[int, int]()
    while True:
        for request in islice(waiting, policy.sessions - len(sessions)):
            policy.submit(request)
            sessions[request.id] = request.session
        if not sessions:
            return
        for id, candidate in policy.step():
            policy.release(sessions.pop(id))
            if isinstance(candidate, Failed):
                raise UserError(f"a policy gave no reply: {candidate.why}; repeat the command")
            yield id, candidate
