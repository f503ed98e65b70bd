"""Engines side by side: one policy from several devices that share nothing."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

import jax
from jax.sharding import Mesh

from rest_jax.config.settings import EngineSettings
from rest_jax.core.effects import Candidate
from rest_jax.core.errors import UserError
from rest_jax.core.events import Listener, notice, silent, warning
from rest_jax.core.policy import Request, ScoreRequest
from rest_jax.distributed.mesh import make_mesh
from rest_jax.models.checkpoint import Model
from rest_jax.models.decoder import Params
from rest_jax.sampling.engine import UNFINISHED, Engine
from rest_jax.sampling.exhaustion import mendable
from rest_jax.sampling.programs import Report, compile_all
from rest_jax.sampling.stats import Stats, together
from rest_jax.sampling.stops import StopTable


class Replicas:
    """Implements `core.policy.Policy` on `engine.replicas` engines, each on `engine.tensor` devices of its own; with
    fewer devices on as many as there are devices for.

    A session lives on one of them, the one with the fewest sessions when it came. A candidate's bits do not depend on
    its neighbours (see `Engine`), so neither do they depend on the number of replicas. None waits for another: while
    the host reads what one has sampled, the others decode.
    """

    def __init__(self, model: Model, settings: EngineSettings, *, dtype: Any = None, emit: Listener = silent):
        """Tells why attention is computed as it is; warns when there are devices for fewer engines than were asked for
        and, later, of the first request that has no room."""
        first, *others = meshes(settings)
        stops = StopTable(model.codec, model.config.vocab)
        engine = Engine(model, settings, dtype=dtype, mesh=first, stops=stops)
        copied = replace(model, params=engine.weights)  # read once, however many there are
        self.engines = (engine, *(Engine(copied, settings, mesh=mesh, stops=stops) for mesh in others))
        notice(emit, engine.attention.why)
        if len(self.engines) < settings.replicas:
            there = f"only {len(jax.local_devices())} devices are here (of a CPU at most one for each core)"
            warning(emit, f"engine.replicas is {settings.replicas}, but {there}: {len(self.engines)} will sample")
        self.codec, self.weights_digest = model.codec, model.weights_digest
        self._settings, self._emit = settings, emit
        self._shared: tuple[tuple[int, ...], ...] | None = ()
        """None: not the same on all of them, for sharing has failed."""
        self._home: dict[int, Engine] = {}
        """By session."""
        self._started: dict[Engine, Future[None]] = {}
        """Those that the device works for, and when it is through."""
        self._watchers = ThreadPoolExecutor(len(self.engines), "engine")
        """A thread for each engine, to wake at once when the first is through."""
        self._compiled: set[tuple[bool, frozenset[str]]] = set()
        """Whether with shared beginnings, and the stops."""

    def compile(self, report: Report, stop: Sequence[str] = (), *, sharing: bool) -> None:
        """Compiles all that sampling to these stops, with shared beginnings or without, will run, unless that is
        done."""
        wanted = (sharing, frozenset(stop))
        if wanted not in self._compiled:
            programs = [one for engine in self.engines for one in engine.programs([stop], sharing=sharing)]
            with mendable(self._settings):
                compile_all(programs, report)
            self._compiled.add(wanted)

    def load(self, params: Params, weights_digest: str) -> None:
        """Swaps the weights of all engines, as `Engine.load` does."""
        self.free()
        first, *others = self.engines
        first.load(params, weights_digest)
        for engine in others:
            engine.load(first.weights, weights_digest)
        self._shared = ()
        self.weights_digest = weights_digest

    def share(self, beginnings: Sequence[Sequence[int]]) -> None:
        """Computes beginnings once for each engine, as `Engine.share` does; those that are shared already stay."""
        wanted = tuple(map(tuple, beginnings))
        if wanted != self._shared:
            self._refuse_unfinished()
            self._shared = None
            for engine in self.engines:
                engine.share(wanted)
            self._shared = wanted

    def free(self) -> None:
        """Gives the memory of all rows back, as `Engine.free` does."""
        self._refuse_unfinished()
        for engine in self.engines:
            engine.free()

    @property
    def stats(self) -> Stats:
        """What all engines have done, as of now."""
        return together(engine.stats for engine in self.engines)

    @property
    def rows(self) -> int:
        """Rows that decode together, on all devices."""
        return sum(engine.rows for engine in self.engines)

    @property
    def shares(self) -> bool:
        """Whether there is room for shared beginnings."""
        return self.engines[0].shares

    @property
    def sessions(self) -> int:
        return sum(engine.sessions for engine in self.engines)

    @property
    def busy(self) -> bool:
        return any(engine.busy for engine in self.engines)

    def submit(self, request: Request | ScoreRequest) -> None:
        """Queues a request with its session's engine. ValueError as `Engine.submit` raises it."""
        if request.session not in self._home:
            homes = list(self._home.values())
            self._home[request.session] = min(self.engines, key=homes.count)
        home = self._home[request.session]
        if why := home.refusal(request):
            warning(self._emit, why)
            self._emit = silent
        home.submit(request)

    def step(self) -> list[tuple[int, Candidate]]:
        """Gives every idle engine its next step, then returns what ended on those that are through; waits for the
        first."""
        if len(self.engines) == 1:
            return self.engines[0].step()
        for engine in self.engines:
            if engine.busy and engine not in self._started:
                engine.start()
                self._started[engine] = self._watchers.submit(engine.wait)
        wait(self._started.values(), return_when=FIRST_COMPLETED)
        return self._finish([engine for engine, through in self._started.items() if through.done()])

    def release(self, session: int) -> None:
        """Gives a session's rows back, as `Engine.release` does."""
        if session in self._home:
            self._home.pop(session).release(session)

    def _refuse_unfinished(self) -> None:
        """ValueError while a request is unfinished; else waits for what devices still do for those released."""
        if self.busy:
            raise ValueError(UNFINISHED)
        self._finish(list(self._started))

    def _finish(self, engines: Sequence[Engine]) -> list[tuple[int, Candidate]]:
        wait([self._started.pop(engine) for engine in engines])
        return [ended for engine in engines for ended in engine.finish()]


def meshes(settings: EngineSettings) -> list[Mesh]:
    """One for each engine. UserError when there are too few devices for a single one."""
    devices, each = jax.local_devices(), settings.tensor
    if each > len(devices):
        raise UserError(
            f"engine.tensor is {each}, but only {len(devices)} devices are here; set it to {len(devices)} or less"
        )
    starts = range(0, len(devices) - each + 1, each)
    return [make_mesh(tensor=each, devices=devices[start:]) for start in starts[: settings.replicas]]
