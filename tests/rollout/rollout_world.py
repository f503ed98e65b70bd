"""A small world for rollouts: a byte tokenizer, a policy whose words are a function of its request, and tools that
answer late and out of order. All of them keep the real ones' contracts and need no device and no process."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from hashlib import sha256

from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import Prompt
from rest_jax.agents.react import react
from rest_jax.core.effects import Candidate, Finish, Role, Sampling, ToolErrorKind, ToolFault, ToolReply
from rest_jax.core.policy import Request, ScoreRequest
from rest_jax.core.trajectory import Question
from rest_jax.rollout.episode import Job
from rest_jax.rollout.runner import rollout

EOS = 256
CONTROL = "<eos>"
LIMITS = Limits(turns=4, turn_tokens=64, observation_chars=80)
PROMPT = Prompt("Thought:", "Look it up.")
SAMPLING = Sampling()


class ByteCodec:
    """A token is a byte; `<eos>` is a control token of trusted text."""

    digest = "bytes"
    vocab_size = 257
    bos_ids = (10,)
    eos_ids = frozenset({EOS})
    end_of_turn_id = EOS
    control_ids = frozenset({EOS})

    def encode_trusted(self, text):
        parts = text.split(CONTROL)
        ids = [token for part in parts for token in (*part.encode(), EOS)]
        return tuple(ids[:-1])

    def encode_untrusted(self, text):
        return tuple(text.encode())

    def decode(self, ids):
        return bytes(token for token in ids if token != EOS).decode(errors="replace")

    def token_bytes(self, token):
        return b"" if token == EOS else bytes([token])


def f32(value: float) -> float:
    return struct.unpack("<f", struct.pack("<f", value))[0]


class HashPolicy:
    """Searches twice for what a hash of (context, key) says, then answers; so a trajectory is a function of its own
    past alone. Works on `rows` requests at a time; `order` decides which of them end first."""

    weights_digest = "hash"

    def __init__(self, sessions=4, seed=0):
        self.codec = ByteCodec()
        self.sessions = sessions
        self.open: set[int] = set()
        self.requests: list[Request | ScoreRequest] = []
        self.seen: list[Request | ScoreRequest] = []
        self._random = random.Random(seed)

    def submit(self, request):
        self.open.add(request.session)
        assert len(self.open) <= self.sessions
        self.requests.append(request)
        self.seen.append(request)

    @property
    def busy(self):
        return bool(self.requests)

    def step(self):
        ended = self._random.sample(self.requests, self._random.randint(1, len(self.requests)))
        self.requests = [request for request in self.requests if request not in ended]
        return [(request.id, self.say(request)) for request in ended]

    def release(self, session):
        self.open.remove(session)
        self.requests = [request for request in self.requests if request.session != session]

    def say(self, request):
        if isinstance(request, ScoreRequest):
            logprobs = tuple(f32(-token / 256) for token in request.continuation)
            return Candidate(request.continuation, logprobs, self.codec.decode(request.continuation), Finish.STOP)
        seed = sha256(repr((request.ids, request.key.words())).encode()).digest()
        searches = self.codec.decode(request.ids).count("Search[")
        words = seed[:3].hex()
        if searches < 2:
            text, overhang, tail, finish = f" Need {words}. Action: Search[{words}]", "\n", (10,), Finish.STOP
        else:
            text, overhang, tail, finish = f" So {words}. Action: Finish[{words}]", "", (EOS,), Finish.EOS
        ids = (*text.encode(), *tail)
        logprobs = tuple(f32(-((token * 7919 + seed[0]) % 1000 + 1) / 997) for token in ids)
        return Candidate(ids, logprobs, text, finish, overhang)


class LateTools:
    """Tools that answer in any order, some polls later. `answer(tool, arguments, nth)` says what."""

    stateful: frozenset[str] = frozenset()

    def __init__(self, answer: Callable[[str, dict, int], ToolReply], seed=0):
        self.calls: list[tuple[str, str, dict]] = []
        self.ended: list[str] = []
        self._answer = answer
        self._pending: list[tuple[int, ToolReply]] = []
        self._random = random.Random(seed)

    def submit(self, id, tool, arguments, episode):
        self.calls.append((episode, tool, dict(arguments)))
        self._pending.append((id, self._answer(tool, dict(arguments), len(self.calls))))

    def end(self, episode):
        self.ended.append(episode)

    def poll(self, timeout_s):
        least = 0 if timeout_s == 0 else 1
        ready = self._random.sample(self._pending, self._random.randint(least, len(self._pending)))
        self._pending = [pending for pending in self._pending if pending not in ready]
        return ready


def article(tool, arguments, nth):
    title = arguments["query"]
    return ToolReply(f"{title}: about {title}.", {"results": [{"title": title}]}, tool_version="1")


def broken(message="adapter gone"):
    return ToolReply("", fault=ToolFault(ToolErrorKind.INFRA, message))


def jobs(n=6, samples=2, agent="react"):
    return [
        Job(Question(f"q{i}", f"What is {i}?", str(i)), sample, 0, 0, "toy", "train", agent)
        for i in range(n)
        for sample in range(samples)
    ]


def make_react(job):
    return react(job.question, PROMPT, LIMITS)


def roll(some, policy, tools, make_agent=make_react, **rest):
    """All trajectories, ordered by id."""
    made = rollout(some, make_agent, {Role.ACTOR: policy}, tools, sampling=SAMPLING, **rest)
    return sorted(made, key=lambda trajectory: trajectory.id)
