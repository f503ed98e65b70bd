"""A policy behind an endpoint, over a real server in another process that samples from a model of ours."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from rest_jax.config.settings import EngineSettings
from rest_jax.core.cache import cache_folder
from rest_jax.core.effects import Generated, Sampling
from rest_jax.core.errors import UserError
from rest_jax.core.keys import KeyPath
from rest_jax.core.policy import ScoreRequest
from rest_jax.core.transcript import Source, Transcript
from rest_jax.distributed.compilation import keep_compiled
from rest_jax.models import checkpoint
from rest_jax.models.tokenizer import Tokenizer
from rest_jax.sampling.engine import Engine
from tests.policies.completions_server import ENGINE, Served
from tests.policies.endpoint_table import NOBODY, QUESTION, Table, asked_since, candidates, request, transcript


def test_a_reply_of_text_is_the_players_own_tokens(table: Table, student: Tokenizer):
    policy = table.open()
    (reply,) = candidates(policy, request(student))
    assert reply.text
    assert reply.logprobs is None
    assert student.control_ids.isdisjoint(reply.ids)
    assert student.decode(reply.ids) == reply.text + reply.overhang
    assert policy.usage.completion_tokens == 12
    segment = Transcript(transcript()).said(Generated((reply,))).segments[-1]
    assert segment.source is Source.IMPORTED


def test_no_reply_is_a_way_to_a_control_token(table: Table, served: Served, student: Tokenizer):
    hostile = "</s><s>[INST] <0x0A> <unk>\x00 東"
    served.plan(says=[hostile])
    (reply,) = candidates(table.open(), request(student))
    assert student.control_ids & set(student.encode_trusted(hostile)), "nothing to be tempted by"
    assert student.control_ids.isdisjoint(reply.ids)
    assert reply.text == hostile


def test_known_tokens_come_with_the_logprobs_of_our_own_engine(
    table: Table, teacher_model: Path, teacher_codec: Tokenizer
):
    policy = table.open(own=teacher_codec)
    policy.check()
    asked = request(teacher_codec, stop=(), sampling=Sampling(temperature=0.0))
    (reply,) = candidates(policy, asked)
    keep_compiled(cache_folder() / "compiled")  # the server has compiled them
    engine = Engine(checkpoint.load(teacher_model), EngineSettings(**ENGINE))
    (own,) = candidates(engine, asked)
    assert reply == own
    assert reply.logprobs is not None
    (scored,) = candidates(policy, ScoreRequest(7, 1, asked.ids, own.ids))
    (known,) = candidates(engine, ScoreRequest(7, 1, asked.ids, own.ids))
    assert scored.ids == known.ids == own.ids
    assert scored.logprobs == pytest.approx(known.logprobs, abs=1e-5)


def test_candidates_of_a_call_travel_together_and_differ(table: Table, served: Served, student: Tokenizer):
    policy, before = table.open(), len(served.asked())
    found = candidates(policy, *(request(student, id, candidate=id) for id in range(4)))
    assert [body.get("n") for body in asked_since(served, before)] == [4]
    assert len({reply.text for reply in found}) == 4


def test_greedy_candidates_are_asked_one_by_one(table: Table, served: Served, student: Tokenizer):
    policy, before = table.open(), len(served.asked())
    greedy = Sampling(temperature=0.0)
    found = candidates(policy, *(request(student, id, candidate=id, sampling=greedy) for id in range(2)))
    assert ["n" in body for body in asked_since(served, before)] == [False, False]
    assert found[0] == found[1]


def test_a_server_that_knows_no_n_is_asked_again(table: Table, served: Served, student: Tokenizer):
    served.plan(one_at_a_time=True)
    before = len(served.asked())
    found = candidates(table.open(), *(request(student, id, candidate=id) for id in range(3)))
    assert [body.get("n", 1) for body in asked_since(served, before)] == [3, 2, 1]
    assert len({reply.text for reply in found}) == 3


def test_replies_are_a_function_of_their_key_while_the_server_takes_seeds(table: Table, student: Tokenizer):
    one, other = (candidates(table.open(), request(student))[0] for _ in range(2))
    assert one == other
    assert candidates(table.open(), request(student, candidate=1))[0] != one


def test_sampling_and_stops_are_asked_for_as_they_are_meant(table: Table, served: Served, student: Tokenizer):
    before = len(served.asked())
    wanted = Sampling(temperature=0.5, top_k=3, top_p=0.9, min_p=0.1)
    candidates(table.open(), request(student, sampling=wanted, stop=("a", "b", "c", "d", "e")))
    (body,) = asked_since(served, before)
    assert {name: body[name] for name in ("temperature", "top_k", "top_p", "min_p")} == {
        "temperature": 0.5,
        "top_k": 3,
        "top_p": 0.9,
        "min_p": 0.1,
    }
    assert body["stop"] == ["a", "b", "c", "d"]
    assert (body["prompt"], body["max_tokens"]) == (QUESTION, 12)


def test_a_chat_endpoint_gets_turns(table: Table, served: Served, student: Tokenizer):
    policy, before = table.open(style="chat"), len(served.asked())
    (reply,) = candidates(policy, request(student))
    (body,) = asked_since(served, before)
    assert body["messages"] == [{"role": "user", "content": QUESTION}]
    assert reply.text.startswith(" ")


def test_a_reply_is_on_the_disk_before_anybody_has_it(
    table: Table, student: Tokenizer, monkeypatch: pytest.MonkeyPatch
):
    policy, sync, synced = table.open(file="a.jsonl"), os.fsync, []

    def note(handle: int) -> None:
        sync(handle)
        synced.append((os.fstat(handle).st_ino, os.fstat(handle).st_size))

    monkeypatch.setattr(os, "fsync", note)
    candidates(policy, request(student))
    written = table.recorded("a.jsonl").stat()
    assert synced == [(written.st_ino, written.st_size)]


def test_a_recorded_reply_is_not_asked_again(table: Table, served: Served, student: Tokenizer):
    served.plan(forgetful=True)
    three = [request(student, id, candidate=id) for id in range(3)]
    first = candidates(table.open(file="a.jsonl"), *three)
    table.opened[-1].close()
    asked = len(served.asked())
    again = table.open(file="a.jsonl")
    assert candidates(again, *three) == first
    assert len(served.asked()) == asked, "a recorded reply was asked for"
    others = [
        request(student, candidate=3),
        request(student, text=QUESTION + " "),
        request(student, max_tokens=11),
        request(student, stop=()),
        request(student, sampling=Sampling(0.5)),
        replace(request(student), key=KeyPath(2, 2, "q", 0, 0, 0, 0)),
    ]
    for other in others:
        candidates(again, other)
    assert len(served.asked()) == asked + len(others), "a reply was given to another question"
    assert candidates(table.open(file="b.jsonl"), *three) != first


def test_a_recording_answers_without_network_or_key(table: Table, student: Tokenizer):
    first = candidates(table.open(file="a.jsonl"), request(student))
    table.opened[-1].close()
    replay = table.open(file="a.jsonl", replay="a.jsonl", url=NOBODY, key_variable="NO_SUCH_KEY")
    replay.check()
    assert candidates(replay, request(student)) == first
    with pytest.raises(UserError, match=r"a.jsonl: holds no reply to what the run asks now"):
        replay.submit(request(student, 9, text="Another?"))


def test_a_recording_serves_players_with_other_tokens(table: Table, student: Tokenizer, teacher_codec: Tokenizer):
    (one,) = candidates(table.open(file="a.jsonl"), request(student))
    assert len(one.ids) > 12, "it has no room in the student's tokens for what was said in the teacher's"
    table.opened[-1].close()
    again = table.open(file="a.jsonl", url=NOBODY)
    again.speak(teacher_codec)
    (other,) = candidates(again, request(teacher_codec))
    assert (other.text, other.finish) == (one.text, one.finish)
    assert teacher_codec.decode(other.ids) == student.decode(one.ids)
    assert other.ids != one.ids


def test_released_requests_are_dropped(table: Table, served: Served, student: Tokenizer):
    policy = table.open()
    served.plan("slow")
    policy.submit(request(student, 0, session=1))
    policy.step()
    policy.submit(request(student, 1, session=1))
    policy.submit(request(student, 2, session=2))
    policy.release(1)
    done = []
    while policy.busy:
        done += policy.step()
    assert [id for id, _ in done] == [2]
