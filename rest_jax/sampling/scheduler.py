"""Which request runs in which row, and what of it is already cached there. Plain Python, deterministic, no jax.

A *pool* is `rows` cache rows of one width; a *slot* is one of them. A session has `rows_per_session` *lanes*, each with
a queue of requests and one transcript. There may be more lanes than rows: a lane that waits keeps its transcript, and
its row only until another request needs one. Then the row's content is copied out (*parked*), to be copied into
whatever row is free when the lane goes on. While rows suffice nothing is copied. Requests wait for a row in the order
of their submission, and a running one always ends, so nothing can deadlock.

What a row computes must be a function of its own trajectory, never of its neighbours or of timing:

- A request goes to a lane when it is submitted. The requests of one effect are submitted together, when all lanes of
  their session are idle, so the choice is always the same.
- A lane's transcript, in a row or parked, is reused when the request continues it: one of (cached ids, the request's
  ids) begins the other.
- Several requests with the same ids (n candidates): the first is prefilled, the others copy its row in the moment that
  it starts; those that get no row are parked with that copy.
- A transcript that outgrows its width is copied into a wider row.
- Everything else starts from scratch, in chunks from position 0. Whole chunks that any row of the pool computed that
  way from the same ids are copied instead: the bits are the same, so this may depend on the neighbours. (So whole
  chunks of few-shot examples are computed once, where they are no shared beginning.)

A transcript with a shared beginning (`beginnings`) begins, for its row, at the end of that.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from rest_jax.core.policy import Request, ScoreRequest
from rest_jax.sampling.beginnings import Beginning
from rest_jax.sampling.chunks import Chunk, fingerprints, pieces
from rest_jax.sampling.lanes import Job, Lane, Parked, Slot, reusable


@dataclass(frozen=True)
class Copy:
    """A transcript's keys and values are copied: from row to row, out of a row, or back into one."""

    source: Slot | Parked
    target: Slot | Parked


@dataclass(frozen=True)
class Admission:
    """A request starts: its row is extended by the chunks (which count from the end of its shared beginning); then it
    caches all the ids but the last."""

    request: Request | ScoreRequest
    slot: Slot
    ids: tuple[int, ...]
    """The request's, from the end of the slot's shared beginning."""
    chunks: tuple[Chunk, ...]


class Scheduler:
    """Sessions, lanes and slots. `submit` queues; `admit` starts what can start; `ended` and `release` give back."""

    def __init__(self, widths: Sequence[int], rows: int, resident: int, rows_per_session: int, chunk: int):
        """`resident`: the most lanes, of all sessions together."""
        self.widths = tuple(sorted(widths))
        self.sessions = resident // rows_per_session
        self._rows_per_session = rows_per_session
        self._chunk = chunk
        self._pools = {width: [Slot(width, row) for row in range(rows)] for width in self.widths}
        self._lanes: dict[int, list[Lane]] = {}
        self._ticks = count()

    @property
    def busy(self) -> bool:
        return any(lane.load for lanes in self._lanes.values() for lane in lanes)

    def submit(self, request: Request | ScoreRequest, beginning: Beginning, need: int) -> None:
        """Queues a request whose row must hold `need` tokens after its beginning. ValueError when too many sessions
        are open."""
        if request.session not in self._lanes:
            if len(self._lanes) == self.sessions:
                raise ValueError(f"session {request.session}: {self.sessions} sessions are open already; release one")
            self._lanes[request.session] = [Lane() for _ in range(self._rows_per_session)]
        lanes = self._lanes[request.session]
        ids = request.ids[len(beginning.ids) :]
        # Idle lanes first; of these one that the ids continue, then one that has no transcript to lose.
        lane = min(
            lanes,
            key=lambda lane: (lane.load, -reusable(lane.home, beginning, ids), bool(lane.home and lane.home.ids)),
        )
        twin = None if lane.load else _twin(lanes, request.ids)
        lane.queue.append(Job(request, beginning, need, next(self._ticks), twin))

    def admit(self) -> Iterator[Copy | Admission]:
        """Starts the first request of every idle lane that has the row that it needs, then of those that get one.

        What is yielded has to be carried out before the next is asked for. Lanes that have their row come first: they
        cost no copy, and a tool that answers at once keeps its lane running.
        """
        first = [lane for lanes in self._lanes.values() for lane in lanes if lane.queue and lane.running is None]
        leading = [lane for lane in first if lane.queue[0].twin is None]
        for lane in leading:
            self._fit(lane.queue[0], lane.home)
        full: set[int] = set()
        for lane in sorted(leading, key=lambda lane: (not _seated(lane), lane.queue[0].order)):
            job = lane.queue[0]
            if job.width in full and not _seated(lane):
                continue
            if (yield from self._start(lane, lane)):
                yield from self._start_twins(lane, self._lanes[job.request.session])
            else:
                full.add(job.width)

    def ended(self, request: Request | ScoreRequest, said: Sequence[int], *, poisoned: bool = False) -> None:
        """A request ended: its lane waits, and its slot caches the transcript but for the last token.

        `poisoned`: the row's content is worthless.
        """
        for lane in self._lanes.get(request.session, ()):
            if lane.running and lane.running.request is request and isinstance(lane.home, Slot):
                lane.home.ids = () if poisoned else (*lane.running.ids, *said)[:-1]
                lane.home.fresh = () if poisoned else lane.home.fresh
                lane.running, lane.since = None, next(self._ticks)

    def release(self, session: int) -> list[Slot]:
        """Forgets a session and what it still had to do; returns the slots that were running, whose content nobody
        has seen: they count as empty."""
        lanes = self._lanes.pop(session, [])
        running = [lane.home for lane in lanes if lane.running and isinstance(lane.home, Slot)]
        for slot in running:
            slot.ids, slot.fresh = (), ()
        for lane in lanes:
            lane.move(None)
        return running

    def forget(self) -> None:
        """All that is cached is void: the weights changed."""
        for pool in self._pools.values():
            for slot in pool:
                slot.ids, slot.fresh = (), ()
        for lanes in self._lanes.values():
            for lane in lanes:
                if isinstance(lane.home, Parked):
                    lane.move(None)

    def _fit(self, job: Job, before: Slot | Parked | None) -> None:
        """Settles the width of a job whose transcript before it is cached in `before`."""
        if not job.width:
            fits = next(width for width in self.widths if width >= job.need)
            job.width = max(fits, before.width) if before and reusable(before, job.beginning, job.ids) else fits

    def _start(self, lane: Lane, leader: Lane) -> Generator[Copy | Admission, None, bool]:
        """Starts a lane's first request on what its leader (itself, or its twin's lane) has cached. False when there
        is no row for it."""
        job, ids = lane.queue[0], lane.queue[0].ids
        slot = lane.home if _seated(lane) else (yield from self._row(job.width))
        if not isinstance(slot, Slot):
            return False
        source = leader.home
        reused = reusable(source, job.beginning, ids)
        if source and reused:
            chunks = tuple(pieces(ids, reused, len(ids) - 1, slot.width, self._chunk))
            first_new = min((chunk.start for chunk in chunks), default=reused)
            fresh = source.fresh[: first_new // self._chunk] if source.width == slot.width else ()
        else:
            fresh = fingerprints(ids[:-1], self._chunk, job.beginning.start)
            source, reused = self._computed_before(slot, job, fresh)
            chunks = tuple(pieces(ids, reused, len(ids) - 1, slot.width, self._chunk))
        if lane.home is not slot:
            lane.move(slot)
        lane.running = lane.queue.popleft()
        slot.ids, slot.beginning, slot.fresh = ids[:-1], job.beginning, fresh
        if source is not None and source is not slot:
            yield Copy(source, slot)
        yield Admission(job.request, slot, ids, chunks)
        return True

    def _start_twins(self, leader: Lane, lanes: Sequence[Lane]) -> Iterator[Copy | Admission]:
        """Starts the twins of a request that has just been started, before its row decodes. Those that get no row are
        parked with what they need of it: later it may hold something else."""
        for lane in lanes:
            if not lane.queue or lane.queue[0].twin is not leader:
                continue
            job, ids = lane.queue[0], lane.queue[0].ids
            job.twin = None
            self._fit(job, leader.home)
            if not (yield from self._start(lane, leader)):
                lane.move(None)
                if leader.home and reusable(leader.home, job.beginning, ids):
                    parked = Parked(leader.home.width, ids[:-1], job.beginning, leader.home.fresh)
                    lane.move(parked)
                    yield Copy(leader.home, parked)

    def _row(self, width: int) -> Generator[Copy, None, Slot | None]:
        """A row of this width in which nothing runs, for another lane: a free one, else that of a lane that waits,
        which is parked. None when all are running.

        Of those that wait the one that began last is parked: where tools take about equally long, the others go on
        before it does.
        """

        def cost(slot: Slot) -> tuple[int, int]:
            return (1 + bool(slot.lane.queue), -slot.lane.since) if slot.lane else (0, 0)

        idle = (slot for slot in self._pools[width] if slot.lane is None or slot.lane.running is None)
        slot = min(idle, key=cost, default=None)
        if slot and slot.lane:
            parked = Parked(slot.width, slot.ids, slot.beginning, slot.fresh)
            slot.lane.move(parked if slot.ids else None)
            if slot.ids:
                yield Copy(slot, parked)
        return slot

    def _computed_before(self, slot: Slot, job: Job, marks: tuple[int, ...]) -> tuple[Slot | None, int]:
        """The slot of this one's pool that shares most whole fresh chunks with a job's ids, whose fingerprints are
        `marks` (this one itself, if it does), and how many tokens they are."""
        chunks = {mark: number for number, mark in enumerate(marks, 1)}

        def shared(other: Slot) -> int:
            return next((chunks[mark] for mark in reversed(other.fresh) if mark in chunks), 0)

        best = max((slot, *self._pools[slot.width]), key=shared)
        tokens = shared(best) * self._chunk
        same = best.beginning == job.beginning and best.ids[:tokens] == job.ids[:tokens]
        return (best, tokens) if tokens and same else (None, 0)


def _twin(lanes: Sequence[Lane], ids: tuple[int, ...]) -> Lane | None:
    """The lane that starts, in the coming round, the first request with these ids."""
    starting = (lane for lane in lanes if lane.queue and not lane.running)
    return next((lane for lane in starting if lane.queue[0].request.ids == ids and not lane.queue[0].twin), None)


def _seated(lane: Lane) -> bool:
    """Whether a lane has the row that its first request needs."""
    return isinstance(lane.home, Slot) and lane.home.width == lane.queue[0].width
