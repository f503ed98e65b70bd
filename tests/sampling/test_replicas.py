"""Engines side by side: sessions stay at home, weights change everywhere, and what is released while a device works
for it ends nowhere."""

from dataclasses import replace
from threading import Event

import jax
import pytest
from sampling_toys import SETTINGS, finish, prompt, request, run, tiny_model

from rest_jax.core.effects import Candidate, Finish
from rest_jax.core.errors import UserError
from rest_jax.models.checkpoint import Model
from rest_jax.sampling.engine import Engine
from rest_jax.sampling.replicas import Replicas


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model()


def two(model: Model) -> Replicas:
    return Replicas(model, replace(SETTINGS, replicas=2))


def hold(monkeypatch: pytest.MonkeyPatch, held: Engine) -> Event:
    """The engine's device is not through before the event is set."""
    event = Event()

    def late(engine: Engine) -> None:
        assert engine is not held or event.wait(60)
        through(engine)

    through = Engine.wait
    monkeypatch.setattr(Engine, "wait", late)
    return event


def test_as_many_as_there_are_devices(model):
    events = []
    assert len(Replicas(model, replace(SETTINGS, replicas=99), emit=events.append).engines) == 8
    (told,) = warnings(events)
    assert told.split(",")[0] == "engine.replicas is 99"
    assert told.endswith(": 8 will sample")
    events.clear()
    Replicas(model, replace(SETTINGS, replicas=2), emit=events.append)
    assert warnings(events) == []


def warnings(events) -> list[str]:
    return [event.data["text"] for event in events if event.kind == "warning"]


def test_a_request_without_room_is_warned_of_once(model):
    events = []
    together = Replicas(model, replace(SETTINGS, replicas=2), emit=events.append)
    replies = run(together, *(request(id, prompt(id, 140)) for id in range(3)), request(3, prompt(3, 20)))
    assert [replies[id].finish for id in range(4)] == [*[Finish.CONTEXT] * 3, Finish.LENGTH]
    (told,) = warnings(events)
    assert told == (
        "a transcript that needs 141 tokens has no room and ends as 'context': the widest of engine.widths is 128; add "
        "a wider one (the model's context is 256)"
    )
    events.clear()
    wide = Replicas(model, replace(SETTINGS, widths=(256, 512)), emit=events.append)
    assert run(wide, request(0, prompt(0, 256)))[0].finish is Finish.CONTEXT
    assert "the model's context is 256 tokens, whatever engine.widths say; shorten the prompt" in warnings(events)[0]


def test_a_session_stays_where_it_began(model):
    together = two(model)
    first = [request(id, prompt(id, 20)) for id in range(4)]
    replies = run(together, *first)
    before = [engine.stats.prefilled for engine in together.engines]
    again = [request(10 + id, (*prompt(id, 20), *replies[id].ids, *prompt(50 + id, 3)), session=id) for id in range(4)]
    assert run(together, *again).keys() == {10, 11, 12, 13}
    added = [engine.stats.prefilled - b for engine, b in zip(together.engines, before, strict=True)]
    assert added == [2 * 3, 2 * 3]  # two sessions on each, and of each transcript what is new: its beginning is there


def test_weights_change_on_every_device(model):
    together, other = two(model), tiny_model(1)
    requests = [request(id, prompt(id, 20)) for id in range(4)]
    run(together, *requests)
    for id in range(4):
        together.release(id)
    together.load(other.params, other.weights_digest)
    assert together.weights_digest == "tiny-1"
    assert run(together, *requests) == run(Engine(other, SETTINGS), *requests)


def test_what_is_released_while_a_device_works_for_it_ends_nowhere(model):
    together = two(model)
    dropped, kept = request(0, prompt(0, 20), max_tokens=40), request(1, prompt(1, 20), max_tokens=40)
    together.submit(dropped)
    together.submit(kept)
    assert together.step() == []
    together.release(0)
    assert finish(together) == run(Engine(model, SETTINGS), kept)
    together.submit(dropped)
    assert finish(together) == run(Engine(model, SETTINGS), dropped)


def test_a_released_session_nobody_knows_is_no_error(model):
    two(model).release(5)


def test_memory_that_compiling_exhausts_is_told_with_its_mend(model):
    def exhausted(*_: object) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes")

    with pytest.raises(
        UserError, match=r"Out of memory while .*; lower engine.rows \(6\) or the widest of engine.widths"
    ):
        Replicas(model, SETTINGS).compile(exhausted, sharing=False)


def test_a_device_that_is_slow_stalls_no_other(model, monkeypatch):
    together = two(model)
    slow = hold(monkeypatch, together.engines[0])
    requests = [request(id, prompt(id, 20), max_tokens=40) for id in range(2)]
    for one in requests:
        together.submit(one)
    replies: dict[int, Candidate] = {}
    while not replies:
        replies |= dict(together.step())
    assert (replies.keys(), together.engines[0].stats.blocks) == ({1}, 0)
    slow.set()
    assert replies | finish(together) == run(Engine(model, SETTINGS), *requests)


def test_no_reply_is_lost_when_what_cannot_be_done_now_is_refused(model, monkeypatch):
    together = two(model)
    slow = hold(monkeypatch, together.engines[0])
    requests = [request(id, prompt(id, 20), max_tokens=4) for id in range(2)]
    for one in requests:
        together.submit(one)
    replies = dict(together.step())
    slow.set()
    for refused in (together.free, lambda: together.share([prompt(9, 40)]), lambda: together.load(model.params, "x")):
        with pytest.raises(ValueError, match="unfinished: step until busy is False"):
            refused()
    assert replies | finish(together) == run(Engine(model, SETTINGS), *requests)


def test_a_beginning_is_shared_again_after_another_had_no_room(model):
    together = Replicas(model, replace(SETTINGS, replicas=2, shared=45))
    begin = prompt(100, 45)
    together.share([begin])
    with pytest.raises(UserError, match=r"engine.shared is 45"):
        together.share([prompt(101, 46)])
    together.share([begin])
    assert together.stats.prefilled == 2 * 2 * len(begin)
