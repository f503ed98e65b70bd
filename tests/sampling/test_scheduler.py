"""The scheduler against a fake device whose cache remembers how every position was computed."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_toys import request

from rest_jax.core.policy import Request, ScoreRequest
from rest_jax.sampling.beginnings import NO_BEGINNING
from rest_jax.sampling.chunks import Chunk, batches, buckets, fingerprints
from rest_jax.sampling.lanes import Parked, Slot
from rest_jax.sampling.scheduler import Admission, Copy, Scheduler

CHUNK = 32
Name = tuple[int, int, int]
"""Session, turn and candidate of a request."""


@dataclass
class FakeDevice:
    """Rows as lists of (token, how it was computed). Two equal histories mean equal bits."""

    scheduler: Scheduler
    rng: random.Random
    contents: dict[tuple[int, int], list] = field(default_factory=dict)
    running: dict[int, tuple[Admission, tuple[int, ...], tuple[int, int]]] = field(default_factory=dict)
    scored: list[tuple[ScoreRequest, tuple[int, ...]]] = field(default_factory=list)
    histories: dict[Name, tuple] = field(default_factory=dict)
    """How each position of a request's context was computed."""
    names: dict[int, Name] = field(default_factory=dict)
    """By request id; a request without a name is of candidate 0 in its session's turn 0."""
    extended: int = 0
    copies: list[Copy] = field(default_factory=list)

    def submit(self, one: Request | ScoreRequest) -> None:
        more = one.max_tokens if isinstance(one, Request) else len(one.continuation)
        self.scheduler.submit(one, NO_BEGINNING, len(one.ids) + more)

    def step(self) -> list[tuple[Request | ScoreRequest, tuple[int, ...]]]:
        """Admits, then lets each running request end with chance 1/3 (blocks of any size look like that)."""
        for order in self.scheduler.admit():
            if isinstance(order, Copy):
                self.copy(order)
            else:
                self.carry_out(order)
        ended, self.scored = self.scored, []
        for id in sorted(self.running):
            if self.rng.random() < 1 / 3:
                admission, said, place = self.running.pop(id)
                for index, token in enumerate(said[:-1]):
                    position = len(admission.request.ids) + index
                    self.write(place, position, token, ("decode", place[0], position))
                self.scheduler.ended(admission.request, said)
                ended.append((admission.request, said))
        return ended

    def copy(self, order: Copy) -> None:
        source, target = order.source, order.target
        content = source.content if isinstance(source, Parked) else self.contents[source.width, source.row]
        if isinstance(target, Parked):
            target.content = list(content)
        else:
            self.overwritten((target.width, target.row))
            self.contents[target.width, target.row] = list(content)
        self.copies.append(order)

    def carry_out(self, admission: Admission) -> None:
        slot, ids = admission.slot, admission.request.ids
        place = (slot.width, slot.row)
        self.overwritten(place)
        for chunk in admission.chunks:
            assert chunk.start + chunk.size <= slot.width
            assert len(chunk.ids) <= chunk.size
            self.extended += len(chunk.ids)
            for index, token in enumerate(chunk.ids):
                how = ("chunk", slot.width, chunk.start, chunk.size, chunk.ids)
                self.write(place, chunk.start + index, token, how)
        cached = self.contents.get(place, [])[: len(ids) - 1]
        assert tuple(token for token, _ in cached) == ids[:-1]
        name = self.names.get(admission.request.id, (admission.request.session, 0, 0))
        self.histories[name] = tuple(cached)
        self.write(place, len(ids) - 1, ids[-1], ("decode", slot.width, len(ids) - 1))
        if isinstance(admission.request, ScoreRequest):
            self.write(place, len(ids), admission.request.continuation[0], ("score", name))
            self.scheduler.ended(admission.request, ())
            self.scored.append((admission.request, admission.request.continuation))
        else:
            said = tuple(hash((name, i)) % 100 for i in range(admission.request.max_tokens))
            self.running[admission.request.id] = (admission, said, place)

    def overwritten(self, place: tuple[int, int]) -> None:
        assert place not in {running for _, _, running in self.running.values()}

    def write(self, place: tuple[int, int], position: int, token: int, how: tuple) -> None:
        content = self.contents.setdefault(place, [])
        content += [None] * (position + 1 - len(content))
        content[position] = (token, how)


def play(device: FakeDevice, sessions: list[int], n: int, rng: random.Random, latency: Callable[[], int]) -> None:
    """Agents of several turns: n candidates (in one turn n continuations to score), then on from one of them or from a
    new transcript, when a tool has answered: `latency` rounds later. Only the order of events is random."""
    ids = iter(range(1_000_000))
    waiting = list(sessions)
    turns: dict[int, int] = {}
    open_requests: dict[int, dict[int, tuple]] = {}
    at_tools: list[tuple[int, int, tuple[int, ...]]] = []
    rounds = 0

    def ask(session: int, context: tuple[int, ...]) -> None:
        turn = turns[session] = turns.get(session, -1) + 1
        open_requests[session] = {}
        for candidate in range(n):
            id = next(ids)
            device.names[id] = (session, turn, candidate)
            open_requests[session][candidate] = ()
            if turn == 3:
                device.submit(ScoreRequest(id, session, context, (400 + candidate,)))
            else:
                device.submit(request(id, context, session=session, max_tokens=5 + (session + turn) % 7))

    while waiting or open_requests:
        while waiting and len(open_requests) < device.scheduler.sessions:
            session = waiting.pop(0)
            ask(session, (*range(70), session))
        for _, session, context in [called for called in at_tools if called[0] <= rounds]:
            ask(session, context)
        at_tools = [called for called in at_tools if called[0] > rounds]
        ended = device.step()
        rounds += 1
        rng.shuffle(ended)
        for one, said in ended:
            session, turn, candidate = device.names[one.id]
            replies = open_requests[session]
            replies[candidate] = (*one.ids, *said)
            if all(replies.values()):
                if turn == 5:
                    device.scheduler.release(session)
                    del open_requests[session]
                elif turn == 2:
                    at_tools.append((rounds + latency(), session, (*range(64), 200, session, turn)))
                else:
                    context = (*replies[(session + turn) % n], *range(300, 310 + session % 20))
                    at_tools.append((rounds + latency(), session, context))


SESSIONS = list(range(9))
CANDIDATES = [(1, 1), (3, 3), (3, 2), (2, 1)]
"""Candidates of a call, and the lanes of a session."""


def histories(n: int, lanes: int, sessions: list[int], seed: int, *, rows: int, resident: int, latest: int = 0):
    """How all contexts were computed, and what was copied meanwhile; a tool takes up to `latest` rounds."""
    rng = random.Random(seed)
    device = FakeDevice(Scheduler((96, 160, 256), rows, resident, lanes, CHUNK), random.Random(seed + 1))
    play(device, sessions, n, rng, lambda: rng.randint(0, latest))
    assert not device.scheduler.busy
    assert len(device.histories) == len(sessions) * 6 * n
    return device.histories, device.copies


def alone(n: int, lanes: int) -> dict[Name, tuple]:
    """The histories of sessions each of which has the device for itself, with a row for every lane."""
    apart: dict[Name, tuple] = {}
    for session in SESSIONS:
        apart |= histories(n, lanes, [session], 2 + session, rows=lanes, resident=lanes)[0]
    return apart


ALONE = {candidates: alone(*candidates) for candidates in CANDIDATES}


@pytest.mark.parametrize(("n", "lanes"), CANDIDATES)
def test_what_a_row_computes_is_a_function_of_its_own_session(n, lanes):
    together, copies = histories(n, lanes, SESSIONS, 0, rows=12, resident=12)
    assert together == ALONE[n, lanes]
    assert not any(isinstance(copy.target, Parked) for copy in copies)
    assert histories(n, lanes, SESSIONS[::-1], 1, rows=12, resident=12)[0] == together


@settings(deadline=None, max_examples=60)
@given(
    candidates=st.sampled_from(CANDIDATES),
    rows=st.integers(1, 6),
    more=st.sampled_from([1, 2, 4]),
    latest=st.sampled_from([0, 1, 8]),
    seed=st.integers(0, 2**32),
)
def test_nor_does_it_depend_on_who_was_parked_and_when(candidates, rows, more, latest, seed):
    n, lanes = candidates
    resident = max(lanes, rows * more)
    together, copies = histories(n, lanes, SESSIONS, seed, rows=rows, resident=resident, latest=latest)
    assert together == ALONE[candidates]
    if resident == rows:
        assert not any(isinstance(copy.target, Parked) for copy in copies)


def oversubscribed(rows: int, resident: int) -> FakeDevice:
    return FakeDevice(Scheduler((64, 128), rows, resident, 1, CHUNK), random.Random(0))


def finish(device: FakeDevice) -> dict[int, tuple[int, ...]]:
    """Request id → what was said."""
    said = {}
    while device.scheduler.busy:
        said |= {one.id: ids for one, ids in device.step()}
    return said


def test_the_row_of_who_began_to_wait_last_is_parked_and_copied_back():
    device = oversubscribed(rows=2, resident=4)
    contexts = {}
    for session in (1, 0):
        device.submit(request(session, tuple(range(session, 20)), session=session))
        contexts[session] = (*range(session, 20), *finish(device)[session])
    assert device.copies == []

    device.submit(request(2, (7, 8), session=2))
    finish(device)
    (parked,) = device.copies
    assert parked.source.lane.running is None
    assert parked.target.ids == contexts[0][:-1]

    # Session 0 takes the row of session 2; session 1 still has its own.
    device.copies.clear()
    device.submit(request(3, (*contexts[0], 5), session=0, max_tokens=4))
    finish(device)
    assert [(type(copy.source), type(copy.target)) for copy in device.copies] == [(Slot, Parked), (Parked, Slot)]
    assert device.copies[0].target.ids[:2] == (7, 8)
    assert device.copies[1].source is parked.target
    device.copies.clear()
    device.submit(request(4, (*contexts[1], 5), session=1, max_tokens=4))
    finish(device)
    assert device.copies == []


def test_requests_wait_for_a_row_in_the_order_of_their_submission():
    device = oversubscribed(rows=1, resident=4)
    for session in (3, 1, 2, 0):
        device.submit(request(session, (1, 2, session), session=session))
    assert list(finish(device)) == [3, 1, 2, 0]


def test_a_running_row_is_never_taken():
    device = oversubscribed(rows=2, resident=6)
    for session in range(6):
        device.submit(request(session, (1, 2, session), session=session))
    orders = list(device.scheduler.admit())
    assert [order.request.session for order in orders] == [0, 1]
    assert list(device.scheduler.admit()) == []


def test_there_are_never_more_parked_rows_than_residents_beyond_the_rows():
    scheduler = Scheduler((96, 160, 256), 2, 7, 1, CHUNK)
    device = FakeDevice(scheduler, random.Random(3))
    most = 0

    def latency() -> int:
        nonlocal most
        lanes = [lane for lanes in scheduler._lanes.values() for lane in lanes]
        most = max(most, sum(isinstance(lane.home, Parked) for lane in lanes))
        return 20

    play(device, SESSIONS, 1, random.Random(4), latency)
    assert most == 7 - 2


def test_a_released_session_leaves_nothing_parked():
    device = oversubscribed(rows=1, resident=2)
    for session in (0, 1):
        device.submit(request(session, (1, 2, session), session=session))
        finish(device)
    (parked,) = [copy.target for copy in device.copies]
    assert [lane.home for lane in device.scheduler._lanes[0]] == [parked]
    assert device.scheduler.release(0) == []
    device.submit(request(2, (1, 2, 9), session=2))
    device.submit(request(3, (1, 2, 8), session=1))
    assert set(finish(device)) == {2, 3}


def test_a_shared_beginning_is_computed_once():
    device = FakeDevice(Scheduler((256,), 4, 4, 1, CHUNK), random.Random(0))
    few_shot = tuple(range(4 * CHUNK))
    for session in range(4):
        device.submit(request(session, (*few_shot, session, session), max_tokens=4))
    device.step()
    assert device.extended == len(few_shot) + 4


def test_a_continued_session_extends_by_what_is_new():
    device = FakeDevice(Scheduler((256,), 2, 2, 1, CHUNK), random.Random(0))
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
    device = FakeDevice(Scheduler((256,), 8, 8, 4, CHUNK), random.Random(0))
    for candidate in range(4):
        device.submit(request(candidate, tuple(range(100)), session=5, candidate=candidate))
    device.step()
    assert device.extended == 99
    assert len({place for _, _, place in device.running.values()} | set(device.contents)) == 4


def test_more_sessions_than_there_is_room_for_are_refused():
    scheduler = Scheduler((64,), 4, 4, 2, CHUNK)
    assert scheduler.sessions == 2
    for session in range(2):
        scheduler.submit(request(session, (1, 2)), NO_BEGINNING, 14)
    with pytest.raises(ValueError, match="2 sessions are open"):
        scheduler.submit(request(9, (1, 2)), NO_BEGINNING, 14)
    scheduler.release(0)
    scheduler.submit(request(9, (1, 2)), NO_BEGINNING, 14)


def test_released_work_is_dropped():
    scheduler = Scheduler((64,), 2, 2, 1, CHUNK)
    scheduler.submit(request(0, (1, 2)), NO_BEGINNING, 14)
    scheduler.submit(request(1, (1, 2), session=0), NO_BEGINNING, 14)
    (admission,) = scheduler.admit()
    assert scheduler.busy
    assert scheduler.release(0) == [admission.slot]
    assert not scheduler.busy
    assert list(scheduler.admit()) == []


def test_forgotten_rows_are_computed_anew():
    device = FakeDevice(Scheduler((64,), 1, 1, 1, CHUNK), random.Random(0))
    device.submit(request(0, tuple(range(40)), max_tokens=4))
    while device.scheduler.busy:
        device.step()
    device.scheduler.forget()
    device.submit(request(1, tuple(range(40)), session=0, max_tokens=4))
    device.step()
    assert device.extended == 2 * 39


def test_forgotten_parked_rows_are_computed_anew():
    device = oversubscribed(rows=1, resident=2)
    for session in (0, 1):
        device.submit(request(session, tuple(range(session, session + 20)), session=session, max_tokens=4))
        finish(device)
    device.scheduler.forget()
    device.submit(request(2, tuple(range(20)), session=0, max_tokens=4))
    finish(device)
    assert device.extended == 3 * 19
    assert len(device.copies) == 1


def test_fingerprints_are_of_whole_beginnings():
    one = fingerprints(tuple(range(100)), 32)
    assert len(one) == 3
    assert fingerprints(tuple(range(64)), 32) == one[:2]
    other = fingerprints((7, *range(1, 100)), 32)
    assert not set(one) & set(other)
    assert fingerprints((1, 2), 32) == ()


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
