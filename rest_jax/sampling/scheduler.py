"""Which request runs in which row, and what of it is already cached there. Plain Python, deterministic, no jax.

A *pool* is `rows` cache rows of one width; a *slot* is one of them. A session has a *lane*: a queue of requests and one
transcript. There may be more lanes than rows: a lane that waits keeps its transcript, and its row only until another
request needs one. Then the row's content is copied out (*parked*), to be copied into whatever row is free when the lane
goes on. While rows suffice nothing is copied out. Requests wait for a row in the order of their submission, and a
running one always ends, so nothing can deadlock.

What a row computes must be a function of its own trajectory, never of its neighbours or of timing:

- A lane's transcript, in a row or parked, is reused when the request continues it: one of (cached ids, the request's
  ids) begins the other.
- Several requests with the same ids (n candidates of a call): where rows are free, the others run in those, each on a
  copy of what the first one has of these ids; else one after the other in the lane's. Which ran where must not be seen
  later, so what the lane keeps of them is these ids alone, and no reply. (One that ends for want of a number leaves
  nothing: what the next ones begin from then depends on whether they have begun.)
- A transcript that outgrows its width is copied into a wider row.
- Everything else starts from scratch, in chunks from position 0. The leading chunks that any row of the pool computed
  that way from the same ids are copied instead: the bits are the same, so this may depend on the neighbours. So the
  samples of one question compute its prompt once, and all questions what whole chunks their worked examples fill, where
  those are no shared beginning.

A transcript with a shared beginning (`beginnings`) begins, for its row, at the end of that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, takewhile

from rest_jax.core.policy import Request, ScoreRequest
from rest_jax.sampling.beginnings import Beginning
from rest_jax.sampling.chunks import Chunk, marks, pieces
from rest_jax.sampling.lanes import Job, Lane, Mark, Parked, Slot, reusable


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


class Round:
    """What starts in one call of `admit`. Who copies a row that has itself just started waits for it, in the next
    *wave*, so that all rows of a wave are extended together."""

    def __init__(self) -> None:
        self.waves: dict[Slot, int] = {}
        """By the slots in which something starts."""
        self._later: list[tuple[int, Copy | Admission]] = []

    def add(self, admission: Admission, source: Slot | Parked | None) -> Iterator[Copy | Admission]:
        """An admission to a row that begins with a copy of `source`, if there is one: what can be done at once."""
        slot = admission.slot
        wave = self.waves[slot] = 1 + self.waves[source] if source in self.waves else 0
        orders = (admission,) if source is None or source is slot else (Copy(source, slot), admission)
        if wave:
            self._later += [(wave, order) for order in orders]
        else:
            yield from orders

    def later(self) -> Iterator[Copy | Admission]:
        """The orders of all waves but the first, wave after wave."""
        return (order for _, order in sorted(self._later, key=lambda one: one[0]))


class Scheduler:
    """Sessions, lanes and slots. `submit` queues; `admit` starts what can start; `ended` and `release` give back."""

    def __init__(self, widths: Sequence[int], rows: int, resident: int, chunk: int):
        """`resident`: the most sessions."""
        self.widths = tuple(sorted(widths))
        self.sessions = resident
        self._parkable = resident - rows
        self._chunk = chunk
        self._pools = {width: [Slot(width, row) for row in range(rows)] for width in self.widths}
        self._lanes: dict[int, Lane] = {}
        self._ticks = count()

    @property
    def busy(self) -> bool:
        return any(lane.busy for lane in self._lanes.values())

    def submit(self, request: Request | ScoreRequest, beginning: Beginning, need: int) -> None:
        """Queues a request whose row must hold `need` tokens after its beginning. ValueError when too many sessions
        are open."""
        if request.session not in self._lanes:
            if len(self._lanes) == self.sessions:
                raise ValueError(f"session {request.session}: {self.sessions} sessions are open already; release one")
            self._lanes[request.session] = Lane()
        queue = self._lanes[request.session].queue
        queue.append(Job(request, beginning, need, next(self._ticks)))
        last = [*queue][-2:]
        if len(last) == 2 and all(isinstance(job.request, Request) for job in last) and last[0].same_ids(last[1]):
            for job in last:
                job.sibling = True

    def admit(self) -> Iterator[Copy | Admission]:
        """Starts the first request of every idle lane that has the row that it needs, then of those that get one, then
        candidates in rows that nobody else needs.

        What is yielded has to be carried out before the next is asked for. Lanes that have their row come first: they
        cost no copy, and a tool that answers at once keeps its lane running.
        """
        this = Round()
        leading = [lane for lane in self._lanes.values() if lane.queue and lane.running is None]
        for lane in leading:
            self._fit(lane)
        full: set[int] = set()
        for lane in sorted(leading, key=lambda lane: (not _seated(lane), lane.queue[0].order)):
            width = lane.queue[0].width
            if not _seated(lane) and width in full:
                continue
            slot = lane.home if _seated(lane) else (yield from self._row(lane, this))
            if isinstance(slot, Slot):
                yield from this.add(*self._start(lane, slot, lane.home))
            else:
                full.add(width)
        for lane in self._lanes.values():
            while (slot := self._row_beside(lane)) is not None:
                beside = Lane(deque([lane.queue.popleft()]))
                lane.beside.append(beside)
                yield from this.add(*self._start(beside, slot, lane.home))
        yield from this.later()

    def ended(self, request: Request | ScoreRequest, said: Sequence[int], *, poisoned: bool = False) -> None:
        """A request ended: its lane waits, and its slot caches the transcript but for the last token.

        `poisoned`: the row's content is worthless.
        """
        lane = self._lanes[request.session]
        ran = next(one for one in (lane, *lane.beside) if one.running and one.running.request is request)
        job, slot = ran.running, ran.home
        assert job is not None
        assert isinstance(slot, Slot)
        slot.ids = () if poisoned else (*job.ids, *(() if job.sibling else said))[:-1]
        slot.fresh = () if poisoned else slot.fresh
        ran.running, ran.since = None, next(self._ticks)
        if ran is not lane:
            ran.move(None)
            lane.beside.remove(ran)

    def release(self, session: int) -> list[Slot]:
        """Forgets a session and what it still had to do; returns the slots that were running, whose content nobody
        has seen: they count as empty."""
        lane = self._lanes.pop(session, Lane())
        lanes = (lane, *lane.beside)
        running = [one.home for one in lanes if one.running and isinstance(one.home, Slot)]
        for slot in running:
            slot.ids, slot.fresh = (), ()
        for one in lanes:
            one.move(None)
        return running

    def forget(self) -> None:
        """All that is cached is void: the weights changed."""
        for pool in self._pools.values():
            for slot in pool:
                slot.ids, slot.fresh = (), ()
        for lane in self._lanes.values():
            if isinstance(lane.home, Parked):
                lane.move(None)

    def _fit(self, lane: Lane) -> None:
        """Settles the width of a lane's first request, which is that of its siblings too."""
        job, home = lane.queue[0], lane.home
        if not job.width:
            siblings = takewhile(lambda other: job.sibling and job.same_ids(other), lane.queue)
            need = max((other.need for other in siblings), default=job.need)
            fits = next(width for width in self.widths if width >= need)
            job.width = max(fits, home.width) if home and reusable(home, job.beginning, job.ids) else fits

    def _start(
        self, lane: Lane, slot: Slot, transcript: Slot | Parked | None
    ) -> tuple[Admission, Slot | Parked | None]:
        """Starts a lane's first request in this slot, on what is cached of the transcript that it may continue. With
        it comes what the row begins with a copy of."""
        job, ids = lane.queue[0], lane.queue[0].ids
        source, reused = transcript, reusable(transcript, job.beginning, ids)
        if source and reused:
            chunks = tuple(pieces(ids, reused, len(ids) - 1, slot.width, self._chunk))
            first_new = min((chunk.start for chunk in chunks), default=reused)
            fresh = tuple(mark for mark in source.fresh if mark.tokens <= first_new and source.width == slot.width)
        else:
            fresh = marks(ids[:-1], self._chunk, job.beginning.start)
            source, reused = self._computed_before(slot, job, fresh)
            chunks = tuple(pieces(ids, reused, len(ids) - 1, slot.width, self._chunk))
        if isinstance(job.request, ScoreRequest):
            # Scores, which begin at the last of these ids, may compute those before it anew.
            fresh = tuple(mark for mark in fresh if mark.tokens % self._chunk == 0)
        if lane.home is not slot:
            lane.move(slot)
        lane.running = lane.queue.popleft()
        slot.ids, slot.beginning, slot.fresh = ids[:-1], job.beginning, fresh
        return Admission(job.request, slot, ids, chunks), source

    def _row(self, lane: Lane, this: Round) -> Generator[Copy, None, Slot | None]:
        """A row in which nothing runs for a lane's first request: a free one, else that of a lane that waits, which is
        parked. None when all are running, or when they do and no more may be parked.

        Of those that wait the one that began last is parked: where tools take about equally long, the others go on
        before it does.
        """

        def cost(slot: Slot) -> tuple[int, int]:
            return (1 + bool(slot.lane.queue), -slot.lane.since) if slot.lane else (0, 0)

        pool = self._pools[lane.queue[0].width]
        idle = (slot for slot in pool if slot not in this.waves and not (slot.lane and slot.lane.running))
        slot = min(idle, key=cost, default=None)
        if slot is None or slot.lane is None:
            return slot
        if not slot.ids:
            slot.lane.move(None)
        elif isinstance(lane.home, Parked) or self._parked < self._parkable:
            parked = Parked(slot.width, slot.ids, slot.beginning, slot.fresh)
            slot.lane.move(parked)
            yield Copy(slot, parked)
        else:
            return None  # rows that candidates run in will be free again
        return slot

    def _row_beside(self, lane: Lane) -> Slot | None:
        """A free row for a sibling of the request that runs in a lane; None when there is none of either."""
        waits = lane.running and lane.queue and lane.queue[0].sibling and lane.queue[0].same_ids(lane.running)
        if not (waits and isinstance(lane.home, Slot)):
            return None
        return next((slot for slot in self._pools[lane.home.width] if slot.lane is None), None)

    @property
    def _parked(self) -> int:
        return sum(isinstance(lane.home, Parked) for lane in self._lanes.values())

    def _computed_before(self, slot: Slot, job: Job, wanted: tuple[Mark, ...]) -> tuple[Slot | None, int]:
        """The slot of this one's pool that has most of these fresh chunks (this one itself, if it does), and how many
        tokens they are."""
        known = frozenset(wanted)

        def tokens(other: Slot) -> int:
            return next((mark.tokens for mark in reversed(other.fresh) if mark in known), 0)

        best = max((slot, *self._pools[slot.width]), key=tokens)
        shared = tokens(best)
        same = best.beginning == job.beginning and best.ids[:shared] == job.ids[:shared]
        return (best, shared) if shared and same else (None, 0)


def _seated(lane: Lane) -> bool:
    """Whether a lane has the row that its first request needs."""
    return isinstance(lane.home, Slot) and lane.home.width == lane.queue[0].width
