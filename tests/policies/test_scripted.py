"""A scripted policy ends its replies as the engine ends a model's."""

import pytest

from rest_jax.core.effects import Candidate, Finish, Sampling
from rest_jax.core.keys import KeyPath
from rest_jax.core.policy import Policy, Request, ScoreRequest
from rest_jax.policies.scripted import ScriptedPolicy

END, BRACKET = 256, 257


class ByteCodec:
    """One token per byte, one for `]` with a line's end, one that ends a reply."""

    digest = "bytes"
    vocab_size = 258
    bos_ids = ()
    eos_ids = frozenset({0, END})
    end_of_turn_id = END
    control_ids = frozenset({END})

    def encode_trusted(self, text):
        return self.encode_untrusted(text)

    def encode_untrusted(self, text):
        pieces = text.encode().split(b"]\n")
        return tuple(token for index, piece in enumerate(pieces) for token in (*([BRACKET] if index else []), *piece))

    def decode(self, ids):
        return b"".join(self.token_bytes(token) for token in ids).decode("utf-8", "replace")

    def token_bytes(self, token):
        return {END: b"", BRACKET: b"]\n"}.get(token, bytes([token % 256]))


CODEC = ByteCodec()


def request(id: int, context: str, *, max_tokens: int = 100, stop: tuple[str, ...] = (), session: int = 0) -> Request:
    key = KeyPath(0, 0, "q", 0, 0, 0, 0)
    return Request(id, session, CODEC.encode_untrusted(context), key, max_tokens, stop, Sampling())


def answer(author, one: Request) -> Candidate:
    policy: Policy = ScriptedPolicy(CODEC, author)
    policy.submit(one)
    assert policy.busy
    ((id, reply),) = policy.step()
    assert id == one.id
    assert not policy.busy
    return reply


def test_a_turn_ends_with_its_stop_as_the_engines_do():
    reply = answer(lambda text, _: (f"Action: search[{text}]", False), request(3, "Foo", stop=("\nObservation",)))
    assert (reply.text, reply.overhang, reply.finish) == ("Action: search[Foo]", "\n", Finish.STOP)
    assert reply.ids[-1] == BRACKET
    assert reply.logprobs is None


def test_the_last_turn_ends_with_the_end_of_sequence():
    reply = answer(lambda *_: ("finish[Foo]", True), request(0, "x", stop=("\n",)))
    assert (reply.text, reply.overhang, reply.finish) == ("finish[Foo]", "", Finish.EOS)
    assert reply.ids[-1] == END


def test_a_stop_in_the_middle_of_the_text_ends_it_there():
    reply = answer(lambda *_: ("one\ntwo", True), request(0, "x", stop=("\n",)))
    assert (reply.text, reply.finish, reply.ids) == ("one", Finish.STOP, tuple(b"one\n"))


def test_the_budget_ends_a_long_text():
    reply = answer(lambda *_: ("abcdef", False), request(0, "x", max_tokens=4))
    assert (reply.text, reply.finish, len(reply.ids)) == ("abcd", Finish.LENGTH, 4)


def test_released_sessions_are_not_answered_and_scores_are_refused():
    policy = ScriptedPolicy(CODEC, lambda text, _: (text, False))
    policy.submit(request(0, "a", session=1))
    policy.submit(request(1, "b", session=2))
    policy.release(1)
    assert [id for id, _ in policy.step()] == [1]
    assert policy.step() == []
    with pytest.raises(ValueError, match="cannot score"):
        policy.submit(ScoreRequest(2, 0, (1,), (2,)))
