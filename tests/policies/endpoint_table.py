"""Policies over a server in another process, what they are asked, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rest_jax.config.policies import EndpointSettings
from rest_jax.core.effects import Candidate, Sampling
from rest_jax.core.keys import KeyPath
from rest_jax.core.policy import Failed, Policy, Request, ScoreRequest, TextCodec
from rest_jax.core.transcript import Segment, Transcript
from rest_jax.policies.endpoint import EndpointPolicy
from rest_jax.policies.replies import Replies
from tests.policies.completions_server import MODEL, Served

QUESTION = "Question: Where does the brown fox sleep?\nThought:"
WARM = Sampling(temperature=1.0)
NOBODY = "http://127.0.0.1:9/v1"


class Table:
    """Opens policies over the server, each with a recording of its own, and closes them."""

    def __init__(self, served: Served, folder: Path, codec: TextCodec) -> None:
        self.settings = EndpointSettings(served.url, MODEL, timeout_s=60.0, retries=3)
        self.folder = folder
        self.codec = codec
        self.opened: list[EndpointPolicy] = []

    def open(self, *, own: TextCodec | None = None, file: str = "", **settings: object) -> EndpointPolicy:
        """`own` also plays: then tokens are the endpoint's own. `file`: the recording, a new one by default."""
        chosen = replace(self.settings, tokenizer=None if own is None else "its own", **settings)
        path = self.folder / (file or f"{len(self.opened)}.jsonl")
        policy = EndpointPolicy(chosen, own or self.codec, Replies(path, writable=chosen.replay is None), own=own)
        self.opened.append(policy)
        return policy

    def recorded(self, file: str) -> Path:
        return self.folder / file


def transcript(text: str = QUESTION) -> tuple[Segment, ...]:
    return Transcript().prompted(text).segments


def request(codec: TextCodec, id: int = 0, *, text: str = QUESTION, candidate: int = 0, session: int = 0, **wanted):
    ids = codec.bos_ids + codec.encode_trusted(text)
    key = KeyPath(1, 2, "q", 0, 0, 0, candidate)
    settings = {"max_tokens": 12, "stop": ("\n",), "sampling": WARM, **wanted}
    return Request(id, session, ids, key, segments=transcript(text), **settings)


def ended(policy: Policy, *requests: Request | ScoreRequest) -> list[Candidate | Failed]:
    """What becomes of requests, in their order."""
    for one in requests:
        policy.submit(one)
    done = {}
    while policy.busy:
        done.update(policy.step())
    return [done[one.id] for one in requests]


def candidates(policy: Policy, *requests: Request | ScoreRequest) -> list[Candidate]:
    found = ended(policy, *requests)
    assert all(isinstance(one, Candidate) for one in found), found
    return found


def asked_since(served: Served, before: int) -> list[dict]:
    return served.asked()[before:]
