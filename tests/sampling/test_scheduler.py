"""The scheduler against a fake device whose cache remembers how every position was computed."""

import random
from dataclasses import dataclass, field

import pytest
from sampling_toys import request

from rest_jax.core.policy import Request
from rest_jax.sampling.scheduler import Admission, Chunk, Scheduler, Slot, batches, buckets

CHUNK = 32


@dataclass
class FakeDevice:
    """Rows as lists of (token, how it was computed). Two equal histories mean equal bits."""

    scheduler: Scheduler
    rng: random.Random
    contents: dict[tuple[int, int], list] = field(default_factory=dict)
    running: dict[int, tuple[Admission, tuple[int, ...], int]] = field(default_factory=dict)
    histories: dict[tuple, tuple] = field(default_factory=dict)
    """(session, request key) -> how each position of its context was computed."""
    extended: int = 0

    def submit(self, one: Request) -> None:
        self.scheduler.submit(one, len(one.ids) + one.max_tokens)

    def step(self) -> list[tuple[Request, tuple[int, ...]]]:
        """Admits, then lets each running request end with chance 1/3 (blocks of any size look like that)."""
        for admission in self.scheduler.admit():
            self.carry_out(admission)
        ended = []
        for id in sorted(self.running):
            if self.rng.random() < 1 / 3:
                admission, said, place = self.running.pop(id)
                for index, token in enumerate(said[:-1]):
                    position = len(admission.request.ids) + index
                    self.write(place, position, token, ("decode", place[0], position))
                self.scheduler.ended(admission.request, said)
                ended.append((admission.request, said))
        return ended

    def carry_out(self, admission: Admission) -> None:
        slot, ids = admission.slot, admission.request.ids
        place = (slot.width, slot.row)
        if admission.copy_from:
            source = admission.copy_from
            self.contents[place] = list(self.contents[source.width, source.row])
        for chunk in admission.chunks:
            assert chunk.start + chunk.size <= slot.width
            assert len(chunk.ids) <= chunk.size
            self.extended += len(chunk.ids)
            for index, token in enumerate(chunk.ids):
                how = ("chunk", slot.width, chunk.start, chunk.size, chunk.ids)
                self.write(place, chunk.start + index, token, how)
        cached = self.contents.get(place, [])[: len(ids) - 1]
        assert tuple(token for token, _ in cached) == ids[:-1]
        self.histories[admission.request.session, admission.request.key] = tuple(cached)
        self.write(place, len(ids) - 1, ids[-1], ("decode", slot.width, len(ids) - 1))
        said = tuple(hash((admission.request.key.words(), i)) % 100 for i in range(admission.request.max_tokens))
        self.running[admission.request.id] = (admission, said, place)

    def write(self, place: tuple[int, int], position: int, token: int, how: tuple) -> None:
        content = self.contents.setdefault(place, [])
        content += [None] * (position + 1 - len(content))
        content[position] = (token, how)


def play(device: FakeDevice, sessions: list[int], n: int, rng: random.Random) -> None:
    """Agents of several turns: n candidates, then on from one of them or from a new transcript; a scripted world in
    which only the order of events is random."""
    ids = iter(range(1_000_000))
    waiting = list(sessions)
    turns: dict[int, int] = {}
    open_requests: dict[int, dict[int, tuple]] = {}

    def ask(session: int, context: tuple[int, ...]) -> None:
        turn = turns[session] = turns.get(session, -1) + 1
        open_requests[session] = {}
        for candidate in range(n):
            one = request(next(ids), context, session=session, max_tokens=5 + (session + turn) % 7, candidate=candidate)
            one = Request(**{**vars(one), "key": type(one.key)(0, 0, f"q{session}", 0, 0, turn, candidate)})
            open_requests[session][candidate] = ()
            device.submit(one)

    while waiting or open_requests:
        while waiting and len(open_requests) < device.scheduler.sessions:
            session = waiting.pop(0)
            ask(session, (*range(70), session))
        ended = device.step()
        rng.shuffle(ended)
        for one, said in ended:
            open_requests[one.session][one.key.candidate] = (*one.ids, *said)
            replies = open_requests[one.session]
            if all(replies.values()):
                turn = turns[one.session]
                if turn == 4:
                    device.scheduler.release(one.session)
                    del open_requests[one.session]
                elif turn == 2:
                    ask(one.session, (*range(64), 200, one.session, turn))
                else:
                    ask(one.session, (*replies[(one.session + turn) % n], *range(300, 310 + one.session % 20)))


@pytest.mark.parametrize(("n", "lanes"), [(1, 1), (3, 3), (3, 2), (2, 1)])
def test_what_a_row_computes_is_a_function_of_its_own_session(n, lanes):
    def histories(rows: int, sessions: list[int], seed: int) -> dict:
        device = FakeDevice(Scheduler((96, 160, 256), rows, lanes, CHUNK), random.Random(seed))
        play(device, sessions, n, random.Random(seed + 1))
        assert not device.scheduler.busy
        return device.histories

    everyone = list(range(9))
    together = histories(12, everyone, seed=0)
    assert len(together) == 9 * 5 * n
    assert histories(12, everyone[::-1], seed=1) == together
    alone: dict = {}
    for session in everyone:
        alone |= histories(lanes, [session], seed=2 + session)
    assert alone == together


def test_a_shared_beginning_is_computed_once():
    device = FakeDevice(Scheduler((256,), 4, 1, CHUNK), random.Random(0))
    few_shot = tuple(range(4 * CHUNK))
    for session in range(4):
        device.submit(request(session, (*few_shot, session, session), max_tokens=4))
    device.step()
    assert device.extended == len(few_shot) + 4


def test_a_continued_session_extends_by_what_is_new():
    device = FakeDevice(Scheduler((256,), 2, 1, CHUNK), random.Random(0))
    first = request(0, tuple(range(100)), max_tokens=10)
    device.submit(first)
    ended = []
    while not ended:
        ended = device.step()
    before = device.extended
    assert before == 99
    ((_, said),) = ended
    device.submit(request(1, (*first.ids, *said, 7, 8, 9), session=0))
    device.step()
    # The last token that was said, and all that is new but its last.
    assert device.extended - before == 1 + 2


def test_candidates_of_one_context_are_prefilled_once():
    device = FakeDevice(Scheduler((256,), 8, 4, CHUNK), random.Random(0))
    for candidate in range(4):
        device.submit(request(candidate, tuple(range(100)), session=5, candidate=candidate))
    device.step()
    assert device.extended == 99
    assert len({place for _, _, place in device.running.values()} | set(device.contents)) == 4


def test_more_sessions_than_there_is_room_for_are_refused():
    scheduler = Scheduler((64,), 4, 2, CHUNK)
    assert scheduler.sessions == 2
    for session in range(2):
        scheduler.submit(request(session, (1, 2)), 14)
    with pytest.raises(ValueError, match="2 sessions are open"):
        scheduler.submit(request(9, (1, 2)), 14)
    scheduler.release(0)
    scheduler.submit(request(9, (1, 2)), 14)


def test_released_work_is_dropped():
    scheduler = Scheduler((64,), 2, 1, CHUNK)
    scheduler.submit(request(0, (1, 2)), 14)
    scheduler.submit(request(1, (1, 2), session=0), 14)
    (admission,) = scheduler.admit()
    assert scheduler.busy
    assert scheduler.release(0) == [admission.slot]
    assert not scheduler.busy
    assert list(scheduler.admit()) == []


def test_forgotten_rows_are_computed_anew():
    device = FakeDevice(Scheduler((64,), 1, 1, CHUNK), random.Random(0))
    device.submit(request(0, tuple(range(40)), max_tokens=4))
    while device.scheduler.busy:
        device.step()
    device.scheduler.forget()
    device.submit(request(1, tuple(range(40)), session=0, max_tokens=4))
    device.step()
    assert device.extended == 2 * 39


@pytest.mark.parametrize(("chunk", "sizes"), [(128, (16, 32, 64, 128)), (96, (16, 32, 64, 96)), (16, (16,)), (8, (8,))])
def test_buckets_end_with_the_chunk(chunk, sizes):
    assert buckets(chunk) == sizes


def test_a_batch_has_one_shape_and_keeps_the_order_of_every_row():
    rng = random.Random(0)
    slots = [Slot(width, row) for width in (96, 160) for row in range(5)]
    pending = [(rng.choice(slots), Chunk(index, (1,), rng.choice((16, 32)))) for index in range(60)]
    made = list(batches(pending, 4))
    assert sorted(chunk.start for batch in made for _, chunk in batch) == list(range(60))
    for batch in made:
        assert len(batch) <= 4
        assert len({(slot.width, chunk.size) for slot, chunk in batch}) == 1
        assert len({id(slot) for slot, _ in batch}) == len(batch)
    for slot in slots:
        starts = [chunk.start for batch in made for other, chunk in batch if other is slot]
        assert starts == sorted(starts)
    assert any(len(batch) == 4 for batch in made)
