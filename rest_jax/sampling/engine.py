"""The engine: a policy whose tokens come from a JAX model on one mesh of devices."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from rest_jax.config.limits import checked
from rest_jax.config.settings import EngineSettings
from rest_jax.core.effects import Candidate, Finish
from rest_jax.core.policy import Request, ScoreRequest
from rest_jax.models.checkpoint import Model
from rest_jax.models.decoder import Params
from rest_jax.sampling import state, steps
from rest_jax.sampling.beginnings import Beginning, beginning_of, laid_out
from rest_jax.sampling.device import Device
from rest_jax.sampling.exhaustion import mendable
from rest_jax.sampling.lanes import Slot
from rest_jax.sampling.programs import Program
from rest_jax.sampling.scheduler import Admission, Copy, Scheduler
from rest_jax.sampling.state import Phase
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

    A session's requests run one after the other, but for those with the same ids (the candidates of a call): they run
    at once where rows are free. When more transcripts are resident than there are rows, those that wait are parked:
    copied out, and back when they go on.
    """

    def __init__(
        self,
        model: Model,
        settings: EngineSettings,
        *,
        dtype: Any = None,
        mesh: Mesh | None = None,
        stops: StopTable | None = None,
        time_copies: bool = False,
    ):
        """`dtype`: of weights, computation and cache; None takes the parameters' own. `mesh`: as `make_mesh` makes it;
        None is one of the first `engine.tensor` devices. `stops`: the model's, where engines share one; None makes it.
        `time_copies`: wait for each copy of a row, so that `stats.copy_seconds` is told; what is sampled stays the
        same."""
        widths = checked(settings, "engine").widths_within(model.config.max_positions)
        self.codec = model.codec
        self.rows = settings.rows
        self._config, self._settings = model.config, settings
        self._device = Device(model, settings, dtype, mesh, time_copies=time_copies)
        self.stats, self.devices, self.attention = self._device.stats, self._device.devices, self._device.attention
        self._scheduler = Scheduler(widths, settings.rows, settings.rows + settings.parkable, settings.chunk)
        self._stops = stops or StopTable(model.codec, model.config.vocab)
        self._running: dict[int, dict[int, _Sampled]] = {width: {} for width in widths}
        """By width and row."""
        self._blocks: dict[int, steps.Block] = {}
        """Dispatched and not yet collected, by width."""
        self._done: list[tuple[int, Candidate]] = []
        self._beginnings: tuple[Beginning, ...] = ()
        self.load(model.params, model.weights_digest)

    def load(self, params: Params, weights_digest: str) -> None:
        """Swaps the weights (same config), as `weights.placed` takes them; the old ones, and what was cached or shared,
        are freed first. ValueError while a request is unfinished."""
        self.share(())
        self.weights_digest = weights_digest
        self._device.load(params)

    def share(self, beginnings: Sequence[Sequence[int]]) -> None:
        """Computes beginnings (ids) once for all transcripts that begin with one of them, in place of those that were
        shared before. They are part of what a candidate is a function of.

        All rows are freed. ValueError while a request is unfinished; UserError when `engine.shared` has no room, and
        then all stays as it was. With `engine.shared` 0 nothing is shared.
        """
        laid = laid_out(beginnings, self._settings.shared) if self.shares else ()
        self.free()
        self._beginnings = ()
        with mendable(self._settings):
            self._device.share(laid)
        self._beginnings = laid

    def free(self) -> None:
        """Gives the memory of all rows back, until rows are next used. ValueError while a request is unfinished."""
        if self.busy:
            raise ValueError(UNFINISHED)
        self._scheduler.forget()
        self._device.free()

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

    @property
    def weights(self) -> Params:
        """The weights as decoding reads them; `load` takes them too."""
        return self._device.weights

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
                    self._device.copy(order.source, order.target)
                else:
                    self._admit(order)
            self._device.extend()
            self._blocks = {
                width: self._device.decode(width, self._stops.rows)
                for width, running in self._running.items()
                if running
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
                self._device.wipe(slot)  # a block in flight may have met a NaN

    def programs(self, stops: Sequence[Sequence[str]] = (), *, sharing: bool = False) -> list[Program]:
        """All that sampling with these stop sets runs, with shared beginnings or without: once `compile_all` is
        through, nothing compiles later. Scoring compiles when first used."""
        for stop in stops:
            self._stops.root(stop)
        return self._device.programs(self._scheduler.widths, self._stops.rows, sharing=sharing)

    def _most(self, beginning: Beginning) -> int:
        """Tokens of the longest transcript with this beginning."""
        return min(len(beginning.ids) + self._scheduler.widths[-1], self._config.max_positions)

    def _budget(self, request: Request) -> int:
        return min(request.max_tokens, self._most(beginning_of(request.ids, self._beginnings)) - len(request.ids))

    def _admit(self, admission: Admission) -> None:
        request, slot = admission.request, admission.slot
        self._device.extend_later(slot, admission.chunks)
        if isinstance(request, ScoreRequest):
            self._device.extend()
            self._score(request, slot, len(admission.ids))
        else:
            root = self._stops.root(request.stop)
            budget = self._budget(request)
            values = state.row(admission.ids, request.key, request.sampling, budget, root, slot.beginning)
            self._device.place(slot, values)
            self._running[slot.width][slot.row] = _Sampled(request)

    def _score(self, request: ScoreRequest, slot: Slot, asked: int) -> None:
        """Log-probs of what follows the `asked` tokens that the request has after its shared beginning."""
        ids = (*request.ids, *request.continuation)[len(slot.beginning.ids) :]
        logprobs = self._device.score(slot, ids, asked - 1)
        if np.isfinite(logprobs).all():
            text = self.codec.decode(request.continuation)
            scored = Candidate(request.continuation, tuple(logprobs.tolist()), text, Finish.LENGTH)
        else:
            why = self._diagnosis(int(np.isfinite(logprobs).argmin()), "of what is scored")
            scored = Candidate((), (), "", Finish.NONFINITE, why=why)
        self._device.place(slot, state.idle_row(asked - 1))
        self._end(request, slot, scored)

    def _collect(self, width: int, block: steps.Block) -> None:
        tokens, logprobs, valid, phases = self._device.read(width, block)
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
            self._device.wipe(slot)
        said = result.ids if isinstance(request, Request) else ()
        self._scheduler.ended(request, said, poisoned=poisoned)
        self._done.append((request.id, result))

    def _diagnosis(self, before: int, of_what: str) -> str:
        """Why there is no number after so many tokens that have one."""
        where, unsound = f"no finite number for token {before + 1} {of_what}", self._device.unsound()
        if not unsound:
            return f"{where}: it overflowed in {self._device.dtype.name}, for all parameters are finite"
        more = f" and {len(unsound) - 3} more" if len(unsound) > 3 else ""
        return f"{where}: not finite in the weights are {', '.join(unsound[:3])}{more}"
