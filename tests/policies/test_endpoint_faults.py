"""An endpoint that fails: what is tried again, what stops the run, and what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rest_jax.core.effects import Candidate, Finish
from rest_jax.core.errors import UserError
from rest_jax.core.policy import Failed, ScoreRequest
from rest_jax.models.tokenizer import Tokenizer
from tests.policies.completions_server import Served
from tests.policies.endpoint_table import NOBODY, Table, asked_since, candidates, ended, request


@pytest.mark.parametrize("fault", ["429", "500", "503", "garbage", "disconnect"])
def test_a_failure_that_may_pass_is_asked_again(table: Table, served: Served, student: Tokenizer, fault: str):
    untroubled = candidates(table.open(), request(student))
    served.plan(fault, fault)
    before = len(served.asked())
    assert candidates(table.open(), request(student)) == untroubled
    assert len(asked_since(served, before)) == 3


def test_a_server_that_hangs_is_asked_again(table: Table, served: Served, student: Tokenizer):
    served.plan("slow")
    before = len(served.asked())
    assert candidates(table.open(timeout_s=2.0), request(student))
    assert len(asked_since(served, before)) == 2


def test_a_failure_that_does_not_pass_is_the_infrastructures(table: Table, served: Served, student: Tokenizer):
    served.plan(*["500"] * 4)
    (failed,) = ended(table.open(), request(student))
    assert isinstance(failed, Failed)
    assert failed.why.startswith(f"the endpoint at {served.url} answered 500: ")
    nobody = table.open(url=NOBODY)
    (failed,) = ended(nobody, request(student))
    assert isinstance(failed, Failed)
    assert "out of reach" in failed.why


def test_an_endpoint_that_is_busy_is_there(table: Table, served: Served, student: Tokenizer):
    served.plan("503", "slow", models=None)
    policy = table.open(retries=0, concurrency=1)
    (failed,) = ended(policy, request(student))
    assert isinstance(failed, Failed)
    policy.submit(request(student))
    policy.step()
    policy.look()  # although the only turn is taken
    with pytest.raises(UserError, match="answered 503"):
        table.open().check()


def test_one_that_is_gone_is_told_once_it_has_failed(table: Table, student: Tokenizer):
    policy = table.open(url=NOBODY, retries=0)
    policy.look()  # nobody has asked it for anything
    ended(policy, request(student))
    with pytest.raises(UserError, match=r"out of reach .*; start it, or correct its url, then repeat the command"):
        policy.look()


def test_a_busy_endpoint_is_not_asked_for_all_that_waits(table: Table, served: Served, student: Tokenizer):
    served.plan("429", "429")
    before = len(served.asked())
    candidates(table.open(concurrency=1), *(request(student, id, text=f"{id}?") for id in range(3)))
    assert [body["prompt"] for body in asked_since(served, before)] == ["0?", "0?", "0?", "1?", "2?"]


@pytest.mark.parametrize("status", ["400", "401", "403", "404", "307"])
def test_what_no_retry_mends_stops_the_run(table: Table, served: Served, student: Tokenizer, status: str):
    served.plan(status)
    before = len(served.asked())
    with pytest.raises(UserError, match=rf"^the endpoint at http\S+ answered {status}: .*told to fail.*; .*repeat"):
        ended(table.open(), request(student))
    assert len(asked_since(served, before)) == 1


def test_what_came_before_a_refusal_is_recorded(table: Table, served: Served, student: Tokenizer):
    policy = table.open(file="a.jsonl", concurrency=1)
    served.plan("fine", "fine", "401")
    with pytest.raises(UserError, match="answered 401"):
        ended(policy, *(request(student, id, text=f"{id}?") for id in range(3)))
    policy.close()
    assert len(table.recorded("a.jsonl").read_text().splitlines()) == 1 + 2


def test_a_transcript_that_is_too_long_ends_as_such(table: Table, teacher_codec: Tokenizer, student: Tokenizer):
    long = "word " * 1100
    (reply,) = candidates(table.open(), request(student, text=long))
    assert (reply.ids, reply.text, reply.finish) == ((), "", Finish.CONTEXT)
    exact = table.open(own=teacher_codec, context=64)
    short = request(teacher_codec, text="a", max_tokens=1000, stop=())
    assert [one.finish for one in candidates(exact, short)] == [Finish.CONTEXT]
    assert len(short.ids) + len(candidates(exact, replace(short, id=1))[0].ids) == 64
    full = request(teacher_codec, text="a b c d e f g h i j k l m n o p q r s t u v w x y z " * 4)
    assert candidates(exact, full) == [Candidate((), (), "", Finish.CONTEXT)]


def test_the_start_says_what_will_not_do(table: Table, served: Served, student: Tokenizer, teacher_codec: Tokenizer):
    table.open().check()
    with pytest.raises(UserError, match=r"serves no model 'teacherr'; it has teacher$"):
        table.open(model="teacherr").check()
    with pytest.raises(UserError, match=r"out of reach .*; start it, or correct its url"):
        table.open(url=NOBODY).check()
    with pytest.raises(UserError, match="has another tokenizer than 'its own'"):
        table.open(own=student).check()
    with pytest.raises(UserError, match="an endpoint that answers in text; name its tokenizer"):
        table.open().submit(ScoreRequest(0, 0, (1,), (2,)))
    served.plan(models=["x" * 1000] * 9)
    with pytest.raises(UserError, match=r"it has (x{80}, ){4}x{80}$"):
        table.open().check()


def test_the_key_is_nowhere_in_what_is_said(
    table: Table, served: Served, student: Tokenizer, monkeypatch: pytest.MonkeyPatch
):
    served.plan(key="sk-right-0123456789")
    monkeypatch.setenv("TEACHER_KEY", "sk-wrong-0123456789")
    with pytest.raises(UserError, match=r"provided: \[secret\]\..*; check the key") as refused:
        table.open(key_variable="TEACHER_KEY").check()
    assert "sk-wrong" not in str(refused.value)
    monkeypatch.setenv("TEACHER_KEY", "sk-right-0123456789")
    policy = table.open(file="a.jsonl", key_variable="TEACHER_KEY")
    policy.check()
    assert candidates(policy, request(student))
    assert "sk-" not in table.recorded("a.jsonl").read_text()
    monkeypatch.delenv("TEACHER_KEY")
    with pytest.raises(UserError, match="the environment variable TEACHER_KEY is not set"):
        table.open(key_variable="TEACHER_KEY")
