"""Which request runs in which row, and what of it is already cached there. Plain Python, deterministic, no jax.

A *pool* is `rows` cache rows of one width; a *slot* is one of them. A session has `rows_per_session` *lanes*, each with
a queue of requests and at most one slot. A lane keeps its slot between requests (the row is parked), so sessions ×
rows_per_session ≤ rows means that no pool ever lacks a free slot: nothing waits for a row, nothing can deadlock.

What a row computes must be a function of its own trajectory, never of its neighbours or of timing:

- A request goes to a lane when it is submitted. The requests of one effect are submitted together, when all lanes of
  their session are idle, so the choice is always the same.
- A lane's slot is reused when its transcript continues: one of (cached ids, the request's ids) begins the other.
- Several requests with the same ids (n candidates): the first is prefilled, the others copy its row.
- A transcript that outgrows its width is copied into a wider row.
- Everything else starts from scratch, in chunks from position 0. Whole chunks that any row of the pool computed that
  way from the same ids are copied instead: the bits are the same, so this may depend on the neighbours. (So few-shot
  examples are computed once.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rest_jax.core.policy import Request, ScoreRequest

_SMALLEST_BUCKET = 16


@dataclass(frozen=True)
class Chunk:
    """Tokens to run through the model for one row: `ids` (without padding) from position `start`, in a compiled shape
    of `size` tokens; start + size never exceeds the row's width."""

    start: int
    ids: tuple[int, ...]
    size: int


@dataclass(eq=False)
class Slot:
    """One cache row of one pool. A free slot keeps its content until it is taken again."""

    width: int
    row: int
    ids: tuple[int, ...] = ()
    """The ids whose keys and values are cached and belong to a transcript."""
    fresh: int = 0
    """How many of the leading ones were computed from scratch in whole chunks."""
    taken: bool = False


@dataclass(frozen=True)
class Admission:
    """A request that starts: first copy, then extend by the chunks; then the slot caches all its ids but the last."""

    request: Request | ScoreRequest
    slot: Slot
    copy_from: Slot | None
    chunks: tuple[Chunk, ...]


@dataclass(eq=False)
class _Lane:
    queue: deque[_Job] = field(default_factory=deque)
    running: _Job | None = None
    slot: Slot | None = None

    @property
    def load(self) -> int:
        return len(self.queue) + (self.running is not None)


@dataclass(eq=False)
class _Job:
    request: Request | ScoreRequest
    need: int
    """Tokens that its row must be able to hold."""
    twin: _Lane | None
    """The lane of an earlier request with the same ids, admitted in the same round: its row is copied."""


class Scheduler:
    """Sessions, lanes and slots. `submit` queues; `admit` starts what can start; `ended` and `release` give back."""

    def __init__(self, widths: Sequence[int], rows: int, rows_per_session: int, chunk: int):
        self.widths = tuple(sorted(widths))
        self.sessions = rows // rows_per_session
        self._rows_per_session = rows_per_session
        self._chunk = chunk
        self._buckets = buckets(chunk)
        self._pools = {width: [Slot(width, row) for row in range(rows)] for width in self.widths}
        self._lanes: dict[int, list[_Lane]] = {}

    @property
    def busy(self) -> bool:
        return any(lane.load for lanes in self._lanes.values() for lane in lanes)

    def submit(self, request: Request | ScoreRequest, need: int) -> None:
        """Queues a request whose row must hold `need` tokens. ValueError when too many sessions are open."""
        if request.session not in self._lanes:
            if len(self._lanes) == self.sessions:
                raise ValueError(f"session {request.session}: {self.sessions} sessions are open already; release one")
            self._lanes[request.session] = [_Lane() for _ in range(self._rows_per_session)]
        lanes = self._lanes[request.session]
        # Idle lanes first; of these one that the ids continue, then one that has no transcript to lose.
        lane = min(
            lanes, key=lambda lane: (lane.load, -_reusable(lane.slot, request.ids), bool(lane.slot and lane.slot.ids))
        )
        twin = None if lane.load else self._twin(lanes, request.ids)
        lane.queue.append(_Job(request, need, twin))

    def admit(self) -> Iterator[Admission]:
        """Starts the first request of every idle lane, in an order that copies no row before it is filled."""
        starting = [lane for lanes in self._lanes.values() for lane in lanes if lane.queue and lane.running is None]
        # A twin comes after the one whose row it copies.
        for lane in sorted(starting, key=lambda lane: lane.queue[0].twin is not None):
            lane.running = lane.queue.popleft()
            yield self._plan(lane, lane.running)

    def ended(self, request: Request | ScoreRequest, said: Sequence[int], *, poisoned: bool = False) -> None:
        """A request ended: its slot is parked and caches the transcript but for the last token.

        `poisoned`: the row's content is worthless.
        """
        for lane in self._lanes.get(request.session, ()):
            if lane.running and lane.running.request is request and lane.slot:
                lane.slot.ids = () if poisoned else (*request.ids, *said)[:-1]
                lane.slot.fresh = 0 if poisoned else lane.slot.fresh
                lane.running = None

    def release(self, session: int) -> list[Slot]:
        """Forgets a session and what it still had to do; returns the slots that were running."""
        lanes = self._lanes.pop(session, [])
        for lane in lanes:
            if lane.slot:
                lane.slot.taken = False
        return [lane.slot for lane in lanes if lane.running and lane.slot]

    def forget(self) -> None:
        """All that is cached is void: the weights changed."""
        for pool in self._pools.values():
            for slot in pool:
                slot.ids, slot.fresh = (), 0

    def pieces(self, ids: Sequence[int], start: int, end: int, width: int) -> Iterator[Chunk]:
        """Positions start … end - 1 of a transcript as chunks. A last chunk that would stick out of the row begins
        earlier, and computes a few cached tokens anew."""
        for first in range(start, end, self._chunk):
            last = min(first + self._chunk, end)
            size = next(bucket for bucket in self._buckets if bucket >= last - first)
            begin = min(first, width - size)
            yield Chunk(begin, tuple(ids[begin:last]), size)

    def _twin(self, lanes: list[_Lane], ids: tuple[int, ...]) -> _Lane | None:
        """The lane that starts, in the coming round, the first request with these ids."""
        starting = (lane for lane in lanes if lane.queue and not lane.running)
        return next((lane for lane in starting if lane.queue[0].request.ids == ids and not lane.queue[0].twin), None)

    def _plan(self, lane: _Lane, job: _Job) -> Admission:
        ids = job.request.ids
        source = job.twin.slot if job.twin else lane.slot
        reused = _reusable(source, ids)
        width = next(width for width in self.widths if width >= job.need)
        if source and reused:
            width = max(width, source.width)
        slot = self._slot_of_width(lane, width)
        if source and reused:
            chunks = tuple(self.pieces(ids, reused, len(ids) - 1, width))
            first_new = min((chunk.start for chunk in chunks), default=reused)
            fresh = min(source.fresh, first_new) if source.width == width else 0
        else:
            source, reused = self._computed_before(slot, ids)
            chunks = tuple(self.pieces(ids, reused, len(ids) - 1, width))
            fresh = self._whole(len(ids) - 1)
        slot.ids, slot.fresh = ids[:-1], fresh
        return Admission(job.request, slot, None if source is slot else source, chunks)

    def _slot_of_width(self, lane: _Lane, width: int) -> Slot:
        """The lane's own slot when it has that width, else a free one; the old one is free again."""
        if lane.slot is None or lane.slot.width != width:
            if lane.slot:
                lane.slot.taken = False
            lane.slot = next(slot for slot in self._pools[width] if not slot.taken)
            lane.slot.taken = True
        return lane.slot

    def _computed_before(self, slot: Slot, ids: tuple[int, ...]) -> tuple[Slot | None, int]:
        """The slot of this one's pool that shares most whole fresh chunks with the ids (itself, if it does), and how
        many tokens they are."""

        def shared(other: Slot) -> int:
            most = self._whole(min(other.fresh, len(ids) - 1))
            starts = range(self._chunk, most + 1, self._chunk)
            return max((end for end in starts if other.ids[:end] == ids[:end]), default=0)

        best = max((slot, *self._pools[slot.width]), key=shared)
        return (best, shared(best)) if shared(best) else (None, 0)

    def _whole(self, tokens: int) -> int:
        """Tokens in whole chunks."""
        return tokens // self._chunk * self._chunk


def batches(pending: Sequence[tuple[Slot, Chunk]], rows: int) -> Iterator[list[tuple[Slot, Chunk]]]:
    """Pending chunks in batches of at most `rows`: a batch has one width and one size, and one chunk of any slot; the
    chunks of a slot keep their order."""
    waiting = list(pending)
    while waiting:
        width, size = waiting[0][0].width, waiting[0][1].size
        batch: list[tuple[Slot, Chunk]] = []
        later: list[tuple[Slot, Chunk]] = []
        passed: set[Slot] = set()
        for slot, chunk in waiting:
            fits = len(batch) < rows and (slot.width, chunk.size) == (width, size) and slot not in passed
            (batch if fits else later).append((slot, chunk))
            passed.add(slot)
        yield batch
        waiting = later


def buckets(chunk: int) -> tuple[int, ...]:
    """The compiled sizes of a chunk: powers of two from 16, up to `chunk` itself."""
    sizes = (_SMALLEST_BUCKET << power for power in range(chunk.bit_length()))
    return (*(size for size in sizes if size < chunk), chunk)


def _reusable(slot: Slot | None, ids: tuple[int, ...]) -> int:
    """How many leading tokens a slot has cached of a transcript: all that it can when the one continues the other,
    else none."""
    if slot is None:
        return 0
    shared = min(len(slot.ids), len(ids) - 1)
    return shared if slot.ids[:shared] == ids[:shared] else 0
