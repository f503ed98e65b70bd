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
from rest_jax.sampling.chunks import Chunk, batches, buckets, marks
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
    """The width of a request's row, and how each position of its context was computed."""
    names: dict[int, Name] = field(default_factory=dict)
    """By request id; a request without a name is of candidate 0 in its session's turn 0."""
    extended: int = 0
    copies: list[Copy] = field(default_factory=list)
    most_parked: int = 0
    most_running: int = 0

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
        lanes = self.scheduler._lanes.values()
        self.most_parked = max(self.most_parked, sum(isinstance(lane.home, Parked) for lane in lanes))
        self.most_running = max(self.most_running, len(self.running))
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
        self.histories[name] = (slot.width, *cached)
        assert len(ids) + (admission.request.max_tokens if isinstance(admission.request, Request) else 1) <= slot.width
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
                more = 5 + (session + turn) % 7 + 4 * candidate
                device.submit(request(id, context, session=session, max_tokens=more))

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
CANDIDATES = [1, 2, 4]
"""Of a call."""


def played(n: int, sessions: list[int], seed: int, *, rows: int, resident: int, latest: int = 0) -> FakeDevice:
    """A device on which all contexts were computed; a tool takes up to `latest` rounds."""
    rng = random.Random(seed)
    device = FakeDevice(Scheduler((96, 160, 256), rows, resident, CHUNK), random.Random(seed + 1))
    play(device, sessions, n, rng, lambda: rng.randint(0, latest))
    assert not device.scheduler.busy
    assert len(device.histories) == len(sessions) * 6 * n
    assert device.most_parked <= resident - rows
    return device


def alone(n: int) -> dict[Name, tuple]:
    """The histories of sessions each of which has the device for itself, with a row for every candidate."""
    apart: dict[Name, tuple] = {}
    for session in SESSIONS:
        device = played(n, [session], 2 + session, rows=n, resident=n)
        assert device.most_running == n
        apart |= device.histories
    return apart


ALONE = {n: alone(n) for n in CANDIDATES}


@pytest.mark.parametrize("n", CANDIDATES)
def test_what_a_row_computes_is_a_function_of_its_own_session(n):
    together = played(n, SESSIONS, 0, rows=12, resident=12)
    assert together.histories == ALONE[n]
    assert not any(isinstance(copy.target, Parked) for copy in together.copies)
    assert played(n, SESSIONS[::-1], 1, rows=12, resident=12).histories == ALONE[n]


@settings(deadline=None, max_examples=60)
@given(
    n=st.sampled_from(CANDIDATES),
    rows=st.integers(1, 6),
    more=st.sampled_from([1, 2, 4]),
    latest=st.sampled_from([0, 1, 8]),
    seed=st.integers(0, 2**32),
)
def test_nor_does_it_depend_on_who_was_parked_and_when(n, rows, more, latest, seed):
    together = played(n, SESSIONS, seed, rows=rows, resident=rows * more, latest=latest)
    assert together.histories == ALONE[n]
    if more == 1:
        assert not any(isinstance(copy.target, Parked) for copy in together.copies)


def oversubscribed(rows: int, resident: int) -> FakeDevice:
    return FakeDevice(Scheduler((64, 128), rows, resident, CHUNK), random.Random(0))


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
        device.submit(request(session, (session, 2), session=session))
    orders = list(device.scheduler.admit())
    assert [order.request.session for order in orders] == [0, 1]
    assert list(device.scheduler.admit()) == []


@pytest.mark.parametrize("n", [1, 2])
def test_as_many_rows_are_parked_as_residents_are_beyond_the_rows(n):
    device = FakeDevice(Scheduler((96, 160, 256), 2, 7, CHUNK), random.Random(3))
    play(device, SESSIONS, n, random.Random(4), lambda: 20)
    assert device.most_parked == 7 - 2


def test_a_released_session_leaves_nothing_parked():
    device = oversubscribed(rows=1, resident=2)
    for session in (0, 1):
        device.submit(request(session, (1, 2, session), session=session))
        finish(device)
    (parked,) = [copy.target for copy in device.copies]
    assert device.scheduler._lanes[0].home is parked
    assert device.scheduler.release(0) == []
    device.submit(request(2, (1, 2, 9), session=2))
    device.submit(request(3, (1, 2, 8), session=1))
    assert set(finish(device)) == {2, 3}


def test_a_shared_beginning_is_computed_once():
    device = FakeDevice(Scheduler((256,), 4, 4, CHUNK), random.Random(0))
    few_shot = tuple(range(4 * CHUNK))
    for session in range(4):
        device.submit(request(session, (*few_shot, session, session), max_tokens=4))
    device.step()
    assert device.extended == len(few_shot) + 4


def test_a_continued_session_extends_by_what_is_new():
    device = FakeDevice(Scheduler((256,), 2, 2, CHUNK), random.Random(0))
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


def test_samples_of_one_prompt_are_prefilled_once():
    device = FakeDevice(Scheduler((256,), 4, 8, CHUNK), random.Random(0))
    ids = tuple(range(100))
    for sample in range(3):
        device.submit(request(sample, ids))
    said = finish(device)
    assert device.extended == 99
    # While a first one goes on, its row still holds what another needs.
    device.submit(request(3, (*ids, *said[0], 7), session=0))
    device.submit(request(4, ids))
    finish(device)
    assert device.extended == 99 + 1
    # Not so one whose last chunk is another.
    device.submit(request(5, ids[:-2]))
    finish(device)
    assert device.extended == 99 + 1 + 1


def test_scores_may_compute_the_last_chunk_anew_which_is_then_no_samples():
    device = FakeDevice(Scheduler((96,), 2, 2, CHUNK), random.Random(0))
    ids = tuple(range(90))
    device.submit(ScoreRequest(0, 0, ids, (5, 6, 7)))
    finish(device)
    device.submit(request(1, ids, max_tokens=4))
    device.step()
    assert device.extended == 89 + 89 % CHUNK


def test_what_starts_at_once_is_extended_at_once():
    scheduler = Scheduler((128,), 8, 8, CHUNK)
    head = tuple(range(CHUNK))
    prompts = {"a": (*head, 50, 51), "b": (*head, 60, 61), "c": (70, 71, 72), "d": (80, 81, 82)}
    for session, name in enumerate("aabbccd"):
        scheduler.submit(request(session, prompts[name]), NO_BEGINNING, 60)
    orders = list(scheduler.admit())
    started = [(order.request.id, len(order.chunks)) for order in orders if isinstance(order, Admission)]
    #                   a, c and d;    copies of a and c, and b on the head of a's;    a copy of b
    assert started == [(0, 2), (4, 1), (6, 1), (1, 0), (2, 1), (5, 0), (3, 0)]
    sources = [(order.source.row, order.target.row) for order in orders if isinstance(order, Copy)]
    assert sources == [(0, 1), (0, 2), (4, 5), (2, 3)]


def test_what_a_later_chunk_computed_anew_is_no_samples():
    device = FakeDevice(Scheduler((96,), 2, 2, CHUNK), random.Random(0))
    ids = tuple(range(84))
    device.submit(request(0, ids, max_tokens=2))
    said = finish(device)[0]
    device.submit(request(1, (*ids, *said, 7, 8, 9, 10), session=0, max_tokens=2))
    finish(device)
    assert device.extended == 83 + (89 - 80)  # the chunk would stick out of the row, were it not to begin at 80
    device.submit(request(2, ids, max_tokens=2))
    finish(device)
    assert device.extended == 83 + (89 - 80) + 83 % CHUNK


def test_a_row_that_others_are_to_copy_is_not_given_away_before():
    device = oversubscribed(rows=2, resident=4)
    head = tuple(range(40))
    device.submit(ScoreRequest(0, 0, (*head, 1), (5,)))  # ends as soon as it starts
    device.submit(request(1, (*head, 2), max_tokens=4))
    device.submit(request(2, (7, 8, 9), max_tokens=4))
    assert finish(device).keys() == {0, 1, 2}


def test_candidates_of_one_context_run_at_once_and_are_prefilled_once():
    device = FakeDevice(Scheduler((256,), 8, 8, CHUNK), random.Random(0))
    for candidate in range(4):
        device.submit(request(candidate, tuple(range(100)), session=5, candidate=candidate))
    device.step()
    assert device.extended == 99
    assert device.most_running == 4


def test_candidates_have_the_rows_that_nobody_else_needs():
    scheduler = Scheduler((64,), 4, 4, CHUNK)
    for candidate in range(3):
        scheduler.submit(request(candidate, (1, 2), session=0), NO_BEGINNING, 14)
    for session in (1, 2):
        scheduler.submit(request(10 + session, (3, session), session=session), NO_BEGINNING, 14)
    admissions = [order for order in scheduler.admit() if isinstance(order, Admission)]
    assert [one.request.id for one in admissions] == [0, 11, 12, 1]
    # It is free again, and the last candidate, which has waited, takes it.
    scheduler.ended(admissions[-1].request, (5, 6))
    copy, last = scheduler.admit()
    assert (copy.source, copy.target, last.request.id) == (admissions[0].slot, admissions[-1].slot, 2)
    assert set(scheduler.release(0)) == {admissions[0].slot, last.slot}
    scheduler.submit(request(7, (5, 6), session=7), NO_BEGINNING, 14)
    assert [order.request.id for order in scheduler.admit()] == [7]


def test_more_sessions_than_there_is_room_for_are_refused():
    scheduler = Scheduler((64,), 2, 2, CHUNK)
    assert scheduler.sessions == 2
    for session in range(2):
        scheduler.submit(request(session, (1, 2)), NO_BEGINNING, 14)
    with pytest.raises(ValueError, match="2 sessions are open"):
        scheduler.submit(request(9, (1, 2)), NO_BEGINNING, 14)
    scheduler.release(0)
    scheduler.submit(request(9, (1, 2)), NO_BEGINNING, 14)


def test_released_work_is_dropped():
    scheduler = Scheduler((64,), 2, 2, CHUNK)
    scheduler.submit(request(0, (1, 2)), NO_BEGINNING, 14)
    scheduler.submit(request(1, (1, 3), session=0), NO_BEGINNING, 14)
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


def test_marks_are_of_whole_beginnings():
    one = marks(tuple(range(100)), 32)
    assert [mark.tokens for mark in one] == [32, 64, 96, 100]
    assert marks(tuple(range(64)), 32) == one[:2]
    other = marks((7, *range(1, 100)), 32)
    assert not set(one) & set(other)
    assert not set(one) & set(marks(tuple(range(100)), 32, before=5))
    assert set(one) & set(marks(tuple(range(99)), 32)) == set(one[:3])
    assert [mark.tokens for mark in marks((1, 2), 32)] == [2]
    assert marks((), 32) == ()


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
