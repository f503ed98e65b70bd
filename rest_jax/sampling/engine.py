"""The engine: a policy whose tokens come from a JAX model on one mesh of devices."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from rest_jax.config.limits import checked
from rest_jax.config.settings import EngineSettings
from rest_jax.core.effects import Candidate, Finish
from rest_jax.core.errors import UserError
from rest_jax.core.policy import Request, ScoreRequest
from rest_jax.distributed.mesh import make_mesh
from rest_jax.models import attention
from rest_jax.models.checkpoint import Model
from rest_jax.models.decoder import Params
from rest_jax.models.finite import not_finite
from rest_jax.sampling import state, steps, weights
from rest_jax.sampling.beginnings import Beginning, beginning_of, laid_out
from rest_jax.sampling.chunks import Chunk, batches, pieces
from rest_jax.sampling.exhaustion import mendable
from rest_jax.sampling.lanes import Parked, Slot
from rest_jax.sampling.layout import layout
from rest_jax.sampling.pools import Pool, Pools
from rest_jax.sampling.programs import Program, Shapes
from rest_jax.sampling.scheduler import Admission, Copy, Scheduler
from rest_jax.sampling.state import Phase
from rest_jax.sampling.stats import Stats
from rest_jax.sampling.stops import StopTable, candidate

_FINISH = {Phase.STOP: Finish.STOP, Phase.EOS: Finish.EOS, Phase.NONFINITE: Finish.NONFINITE}
UNFINISHED = "rows cannot be freed while requests are unfinished: step until busy is False"
_REFUSED = Candidate((), (), "", Finish.CONTEXT)


@dataclass
class _Sampled:
    """A request that is being sampled, and its tokens so far."""

    request: Request
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


class Engine:
    """Implements `core.policy.Policy` on a decoder.

    A candidate is a function of (weights, dtype, settings that are not free, the beginnings that are shared, the
    requests of its own session): its bits do not depend on its row, on other sessions, on the block size or on time.
    Shapes are compiled when first needed, or all of `programs` at once; values never recompile. Pools of rows are
    allocated when first used; what all of it takes is told beforehand by `footprint`.

    A session runs at most `rows_per_session` requests at once; the rest of its requests wait in line. When more
    transcripts are resident than there are rows, those that wait are parked: copied out, and back when they go on.
    """

    def __init__(
        self,
        model: Model,
        settings: EngineSettings,
        *,
        rows_per_session: int = 1,
        dtype: Any = None,
        mesh: Mesh | None = None,
        time_copies: bool = False,
    ):
        """`dtype`: of weights, computation and cache; None takes the parameters' own. `mesh`: as `make_mesh` makes it;
        None is one of the first `engine.tensor` devices. `time_copies`: wait for each copy of a row, so that
        `stats.copy_seconds` is told; what is sampled stays the same."""
        widths = checked(settings, "engine").widths_within(model.config.max_positions)
        resident = settings.rows + settings.parkable
        if not 1 <= rows_per_session <= resident:
            raise UserError(
                f"engine.{'resident' if settings.resident else 'rows'} is {resident}, but one trajectory samples "
                f"{rows_per_session} candidates at once; set it to {rows_per_session} or more"
            )
        self.codec = model.codec
        self.context = min(settings.shared + widths[-1], model.config.max_positions)
        self.rows = settings.rows
        self.stats = Stats()
        self._settings = settings
        self._dtype = jnp.dtype(dtype or model.params["embed"].dtype)
        self._layout = layout(model.config, mesh or make_mesh(tensor=settings.tensor))
        case = attention.Case(self._layout.device.platform, model.config.head_dim, self._dtype.name)
        self.attention = attention.choose(settings.attention, case)
        self._config = replace(model.config, attention=self.attention.name)
        self._traced = self._layout.abstract
        self.devices = self._layout.mesh.size
        self._shapes = weights.shapes(self._config, self._dtype, self._layout)
        self._scheduler = Scheduler(widths, settings.rows, resident, rows_per_session, settings.chunk)
        self._stops = StopTable(model.codec, model.config.vocab)
        self._uploaded = self._stops.rows
        self._table = jax.device_put(self._uploaded, self._layout.whole)
        self._pools = Pools(self._config, settings, self._dtype, self._layout)
        self._time_copies = time_copies
        self._running: dict[int, dict[int, _Sampled]] = {width: {} for width in widths}
        """By width and row."""
        self._pending: list[tuple[Slot, Chunk]] = []
        self._blocks: dict[int, steps.Block] = {}
        """Dispatched and not yet collected, by width."""
        self._done: list[tuple[int, Candidate]] = []
        self._beginnings: tuple[Beginning, ...] = ()
        self._shared: state.Shared | None = None
        self.load(model.params, model.weights_digest)

    def load(self, params: Params, weights_digest: str) -> None:
        """Swaps the weights (same config), as `weights.placed` takes them; the old ones, and what was cached or shared,
        are freed first. ValueError while a request is unfinished."""
        self.share(())
        self.weights_digest, self.weights = weights_digest, {}
        self.weights = weights.placed(params, self._shapes)
        self._unsound: tuple[str, ...] | None = None
        """The parameters that are not finite; None until a reply ended that makes one ask."""

    def share(self, beginnings: Sequence[Sequence[int]]) -> None:
        """Computes beginnings (ids) once for all transcripts that begin with one of them, in place of those that were
        shared before. They are part of what a candidate is a function of.

        All rows are freed. ValueError while a request is unfinished; UserError when `engine.shared` has no room. With
        `engine.shared` 0 nothing is shared.
        """
        self.free()
        self._shared, self._beginnings = None, ()
        if not (beginnings and self.shares):
            return
        laid = laid_out(beginnings, self._settings.shared)
        with mendable(self._settings):
            self._shared = self._computed(laid)
        self._beginnings = laid

    def free(self) -> None:
        """Gives the memory of all rows back, until rows are next used. ValueError while a request is unfinished."""
        if self.busy:
            raise ValueError(UNFINISHED)
        self._scheduler.forget()
        self._pools.free()

    @property
    def sessions(self) -> int:
        return self._scheduler.sessions

    @property
    def shares(self) -> bool:
        """Whether there is room for shared beginnings."""
        return self._settings.shared > 0

    @property
    def busy(self) -> bool:
        return bool(self._done) or self._scheduler.busy

    def submit(self, request: Request | ScoreRequest) -> None:
        """Queues a request. ValueError for an empty context and for more open sessions than `sessions`."""
        if not request.ids:
            raise ValueError(f"request {request.id}: the context is empty; a model needs at least one token")
        if why := self.refusal(request):
            self._done.append((request.id, replace(_REFUSED, why=why)))
            return
        beginning = beginning_of(request.ids, self._beginnings)
        if isinstance(request, Request):
            need = len(request.ids) + self._budget(request)
            self._stops.root(request.stop)
        else:
            need = len(request.ids) + len(request.continuation)
        self._scheduler.submit(request, beginning, need - len(beginning.ids))

    def refusal(self, request: Request | ScoreRequest) -> str:
        """Why a request has no room and will end as `Finish.CONTEXT` at once; empty where it has."""
        need = len(request.ids) + (1 if isinstance(request, Request) else len(request.continuation))
        most, longest = self._most(beginning_of(request.ids, self._beginnings)), self._config.max_positions
        if need <= most:
            return ""
        what = f"a transcript that needs {need} tokens has no room and ends as 'context'"
        if most == longest:
            return f"{what}: the model's context is {longest} tokens, whatever engine.widths say; shorten the prompt"
        widest = self._scheduler.widths[-1]
        return f"{what}: the widest of engine.widths is {widest}; add a wider one (the model's context is {longest})"

    def step(self) -> list[tuple[int, Candidate]]:
        """Starts what can start, decodes one block in every pool where something runs, returns what ended."""
        self.start()
        return self.finish()

    def start(self) -> None:
        """The first half of `step`: dispatches its work to the device, and does not wait for it. UserError when the
        device has no memory left, as `finish` and `share` raise it too."""
        began = time.perf_counter()
        with mendable(self._settings):
            for order in self._scheduler.admit():
                if isinstance(order, Copy):
                    self._copy(order)
                else:
                    self._admit(order)
            self._extend_pending()
            self._blocks = {
                width: self._dispatch(self._pools[width]) for width, running in self._running.items() if running
            }
        self.stats.seconds += time.perf_counter() - began

    def wait(self) -> None:
        """Waits until the device is through with what `start` dispatched: in any thread, before `finish`."""
        began = time.perf_counter()
        jax.block_until_ready(self._blocks)
        self.stats.seconds += time.perf_counter() - began

    def finish(self) -> list[tuple[int, Candidate]]:
        """The second half of `step`: waits for the device and returns what ended."""
        began = time.perf_counter()
        blocks, self._blocks = self._blocks, {}
        with mendable(self._settings):
            for width, block in blocks.items():
                self._collect(width, block)
        self.stats.seconds += time.perf_counter() - began
        done, self._done = self._done, []
        return done

    def release(self, session: int) -> None:
        """Gives a session's rows back, parked ones too. Its unfinished requests are dropped: they end nowhere."""
        for slot in self._scheduler.release(session):
            if self._running[slot.width].pop(slot.row, None):  # else its start has failed
                self._wipe(slot)  # a block in flight may have met a NaN

    def programs(self, stops: Sequence[Sequence[str]] = (), *, sharing: bool = False) -> list[Program]:
        """All that sampling with these stop sets runs, with shared beginnings or without: once `compile_all` is
        through, nothing compiles later. Scoring compiles when first used."""
        for stop in stops:
            self._stops.root(stop)
        table = jax.ShapeDtypeStruct(self._stops.rows.shape, self._stops.rows.dtype, sharding=self._layout.whole)
        widths = tuple(self._scheduler.widths)
        shapes = Shapes(self._config, self._settings, widths, self._layout, self._dtype, self._shapes, table)
        return list(shapes.programs(sharing=sharing))

    def _most(self, beginning: Beginning) -> int:
        """Tokens of the longest transcript with this beginning."""
        return min(len(beginning.ids) + self._scheduler.widths[-1], self._config.max_positions)

    def _budget(self, request: Request) -> int:
        return min(request.max_tokens, self._most(beginning_of(request.ids, self._beginnings)) - len(request.ids))

    def _admit(self, admission: Admission) -> None:
        request, slot = admission.request, admission.slot
        self._pending += [(slot, chunk) for chunk in admission.chunks]
        if isinstance(request, ScoreRequest):
            self._extend_pending()
            self._score(request, slot, len(admission.ids))
        else:
            root = self._stops.root(request.stop)
            budget = self._budget(request)
            values = state.row(admission.ids, request.key, request.sampling, budget, root, slot.beginning)
            self._pools.place(slot, values)
            self._running[slot.width][slot.row] = _Sampled(request)

    def _copy(self, copy: Copy) -> None:
        if any(pending is copy.source for pending, _ in self._pending):
            self._extend_pending()
        if self._time_copies:
            self._pools.wait()
        began = time.perf_counter()
        content = self._pools.copy(copy.source, copy.target)
        if self._time_copies:
            jax.block_until_ready(content)
            self._pools.wait()
            self.stats.copy_seconds += time.perf_counter() - began
        self.stats.parks += isinstance(copy.target, Parked)
        self.stats.unparks += isinstance(copy.source, Parked)
        self.stats.copies += isinstance(copy.source, Slot) and isinstance(copy.target, Slot)
        self.stats.copied_bytes += sum(leaf.nbytes for leaf in jax.tree.leaves(content))

    def _score(self, request: ScoreRequest, slot: Slot, asked: int) -> None:
        """Log-probs of what follows the `asked` tokens that the request has after its shared beginning."""
        ids, first = (*request.ids, *request.continuation)[len(slot.beginning.ids) :], asked - 1
        logprobs = np.zeros(len(ids), np.float32)
        pool = self._pools[slot.width]
        for chunk in pieces(ids, first, len(ids) - 1, slot.width, self._settings.chunk):
            end = chunk.start + len(chunk.ids)
            pool.cache, found = steps.score(
                self._config,
                self._traced,
                self.weights,
                pool.cache,
                np.int32(slot.row),
                np.int32(chunk.start),
                _padded(chunk.ids, chunk.size),
                _padded(ids[chunk.start + 1 : end + 1], chunk.size),
                self._beginnings_of([slot]),
            )
            logprobs[chunk.start + 1 : end + 1] = np.asarray(found)[: len(chunk.ids)]
            self.stats.prefilled += len(chunk.ids)
        logprobs = logprobs[first + 1 :]
        if np.isfinite(logprobs).all():
            text = self.codec.decode(request.continuation)
            scored = Candidate(request.continuation, tuple(logprobs.tolist()), text, Finish.LENGTH)
        else:
            why = self._diagnosis(int(np.isfinite(logprobs).argmin()), "of what is scored")
            scored = Candidate((), (), "", Finish.NONFINITE, why=why)
        self._pools.place(slot, state.idle_row(first))
        self._end(request, slot, scored)

    def _computed(self, beginnings: Sequence[Beginning]) -> state.Shared:
        """Keys and values of beginnings."""
        room = self._settings.room
        shared = state.zeros(state.shared_shapes(self._config, room, self._dtype, self._layout.shared))
        content = state.zeros(state.cache_shapes(self._config, 1, room, self._dtype, self._layout.cache))
        row_1 = np.zeros(1, np.int32)
        for beginning in beginnings:
            for chunk in pieces(beginning.ids, 0, len(beginning.ids), room, self._settings.chunk):
                start_1, ids_1t = np.asarray([chunk.start], np.int32), _padded(chunk.ids, chunk.size)[None]
                content = steps.extend(self._config, self._traced, self.weights, content, row_1, start_1, ids_1t, None)
            start, tokens = np.int32(beginning.start), np.int32(len(beginning.ids))
            shared = steps.share(self._config, shared, content, start, tokens)
            self.stats.prefilled += len(beginning.ids)
        return shared

    def _dispatch(self, pool: Pool) -> steps.Block:
        if self._uploaded is not self._stops.rows:
            self._uploaded = self._stops.rows
            self._table = jax.device_put(self._uploaded, self._layout.whole)
        pool.cache, pool.rows, block = steps.decode_block(
            self._config,
            self._traced,
            self.weights,
            pool.cache,
            pool.rows,
            self._table,
            self._settings.block,
            self._shared,
        )
        return block

    def _collect(self, width: int, block: steps.Block) -> None:
        tokens, logprobs, valid, phases = jax.device_get((*block, self._pools[width].rows.phase))
        self.stats.blocks += 1
        self.stats.row_steps += valid.size
        self.stats.decoded += int(valid.sum())
        for row, sampled in tuple(self._running[width].items()):
            sampled.ids += tokens[valid[:, row], row].tolist()
            sampled.logprobs += logprobs[valid[:, row], row].tolist()
            phase = Phase(int(phases[row]))
            if phase is not Phase.RUNNING:
                del self._running[width][row]
                request = sampled.request
                cut_short = self._budget(request) < request.max_tokens
                finish = _FINISH.get(phase) or (Finish.CONTEXT if cut_short else Finish.LENGTH)
                reply = candidate(self.codec, request.stop, sampled.ids, sampled.logprobs, finish)
                if finish is Finish.NONFINITE:
                    reply = replace(reply, why=self._diagnosis(len(sampled.ids), "of the reply"))
                self._end(request, Slot(width, row), reply)

    def _end(self, request: Request | ScoreRequest, slot: Slot, result: Candidate) -> None:
        poisoned = result.finish is Finish.NONFINITE
        if poisoned:
            self._wipe(slot)
        said = result.ids if isinstance(request, Request) else ()
        self._scheduler.ended(request, said, poisoned=poisoned)
        self._done.append((request.id, result))

    def _wipe(self, slot: Slot) -> None:
        """Empties a row that may hold a NaN, which would outlive it: attention multiplies masked values by zero. And a
        frozen row would write its last token, which may be what makes the NaN, again and again."""
        self._pools.blank(slot)
        self._pools.place(slot, state.idle_row(0))

    def _diagnosis(self, before: int, of_what: str) -> str:
        """Why there is no number after so many tokens that have one."""
        if self._unsound is None:
            self._unsound = not_finite(self.weights)
        where = f"no finite number for token {before + 1} {of_what}"
        if not self._unsound:
            return f"{where}: it overflowed in {self._dtype.name}, for all parameters are finite"
        more = f" and {len(self._unsound) - 3} more" if len(self._unsound) > 3 else ""
        return f"{where}: not finite in the weights are {', '.join(self._unsound[:3])}{more}"

    def _extend_pending(self) -> None:
        for batch in batches(self._pending, self._settings.extend_rows):
            self._extend(batch)
            self.stats.prefilled += sum(len(chunk.ids) for _, chunk in batch)
        self._pending.clear()

    def _extend(self, batch: list[tuple[Slot, Chunk]]) -> None:
        """Runs chunks of one width and size. The batch always has the same number of rows, for the bits' sake."""
        pool = self._pools[batch[0][0].width]
        full = batch + batch[:1] * (self._settings.extend_rows - len(batch))
        row_e = np.asarray([slot.row for slot, _ in full], np.int32)
        start_e = np.asarray([chunk.start for _, chunk in full], np.int32)
        ids_et = np.stack([_padded(chunk.ids, chunk.size) for _, chunk in full])
        beginnings = self._beginnings_of([slot for slot, _ in full])
        pool.cache = steps.extend(
            self._config, self._traced, self.weights, pool.cache, row_e, start_e, ids_et, beginnings
        )

    def _beginnings_of(self, slots: Sequence[Slot]) -> steps.Beginnings | None:
        if self._shared is None:
            return None
        starts = np.asarray([slot.beginning.start for slot in slots], np.int32)
        return steps.Beginnings(self._shared, starts, np.asarray([len(slot.beginning.ids) for slot in slots], np.int32))


def _padded(ids: Sequence[int], size: int) -> np.ndarray:
    """int32 [size], zeros at the end."""
    return np.pad(np.asarray(ids, np.int32), (0, size - len(ids)))
