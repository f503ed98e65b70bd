"""Training checkpoints: the state after a step, kept so that a killed run goes on with the same bits.

Orbax writes each checkpoint beside its place and renames it when it is complete, so a kill at any moment leaves the
ones before it whole; from an accelerator it copies the state to the host, and writes it while the next steps run. A
checksum of each leaf's bits, computed where the leaf lies, is kept with it; a checkpoint that does not match its own is
passed over for the one before.
"""

from __future__ import annotations

import gc
import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import CoroutineType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from rest_jax.core.errors import UserError
from rest_jax.core.events import Listener, warning
from rest_jax.training.step import TrainState

SCHEMA_VERSION = 2
KEPT = 2
"""Checkpoints kept: the newest, and one to fall back on."""


@dataclass(frozen=True)
class Progress:
    """How far a fit has come; `steps` is also the cursor into its schedule of batches."""

    losses: tuple[float, ...] = ()
    tokens: int = 0
    seconds: float = 0.0

    @property
    def steps(self) -> int:
        return len(self.losses)


class Checkpoints:
    """The checkpoints of one fit, in one folder; made by `open_checkpoints`.

    `inputs` is the digest of everything that decides the fit (settings, mixture, seed, model).
    """

    def __init__(self, manager: ocp.CheckpointManager, folder: Path, inputs: str, emit: Listener):
        self._manager = manager
        self._folder = folder
        self._inputs = inputs
        self._emit = emit
        self._last = 0, 0
        """Steps and bytes of the newest one begun."""

    def save(self, state: TrainState, progress: Progress) -> None:
        """Begin to keep the state after `progress.steps` steps; returns once it is copied, and may be donated, which is
        after the one before is on disk. UserError when there is no room, for that one or this."""
        self.wait()
        facts = {
            "schema_version": SCHEMA_VERSION,
            "inputs": self._inputs,
            "checksums": _checksums(state),
            "progress": asdict(progress),
        }
        contents = ocp.args.Composite(state=ocp.args.StandardSave(_tree(state)), facts=ocp.args.JsonSave(facts))
        self._last = progress.steps, sum(leaf.nbytes for leaf in jax.tree.leaves(_tree(state)))
        with self._mendable():
            self._manager.save(progress.steps, args=contents)

    def wait(self) -> None:
        """Returns once all that was begun is on disk. UserError when there is no room for it."""
        with self._mendable():
            self._manager.wait_until_finished()

    @contextmanager
    def _mendable(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # tensorstore reports a full disk as ValueError
            step, needed = self._last
            raise UserError(
                f"{self._folder}: the checkpoint after step {step} could not be written "
                f"({_first_line(error)[-160:]}); free {(needed >> 20) * (KEPT + 1):,} MiB and repeat the command, "
                f"which goes on from the checkpoint before"
            ) from error

    def newest(self, like: TrainState) -> tuple[TrainState, Progress] | None:
        """The newest whole checkpoint, laid out as `like` (its shapes, dtypes and shardings); None without one.

        A damaged checkpoint is passed over with a warning and deleted. UserError when the folder belongs to another
        fit or another version of this program.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                return self._restore(step, like)
            except UserError:
                raise
            except Exception as damage:  # orbax raises whatever its readers meet in the bytes
                warning(
                    self._emit,
                    f"{self._folder / str(step)}: damaged checkpoint ({_first_line(damage)[:120]}); "
                    f"going on from the one before",
                )
            self._manager.delete(step)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # of readers that were never run
                gc.collect()
        return None

    def _restore(self, step: int, like: TrainState) -> tuple[TrainState, Progress]:
        facts = self._manager.restore(step, args=ocp.args.Composite(facts=ocp.args.JsonRestore()))["facts"]
        if facts["schema_version"] != SCHEMA_VERSION:
            raise UserError(
                f"{self._folder}: checkpoints of schema version {facts['schema_version']}, this program reads "
                f"{SCHEMA_VERSION}; use the version of rest_jax that wrote them, or another run folder"
            )
        if facts["inputs"] != self._inputs:
            raise UserError(
                f"{self._folder}: holds checkpoints of a fit with other settings, seed, model or mixture; "
                f"delete that folder or choose another run folder"
            )
        restored = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(_tree(like))))
        state = TrainState(**restored["state"])
        if _checksums(state) != facts["checksums"]:
            raise ValueError("its bytes are not those that were kept")
        progress = facts["progress"]
        return state, Progress(tuple(progress["losses"]), progress["tokens"], progress["seconds"])


def beside_steps() -> bool:
    """Whether checkpoints are written while the next steps run. On a CPU the writer would take the steps' own cores: no
    time is gained, and a kill would cost up to two intervals instead of one."""
    return jax.default_backend() != "cpu"


@contextmanager
def open_checkpoints(
    folder: Path, inputs: str, emit: Listener, *, asynchronous: bool | None = None
) -> Iterator[Checkpoints]:
    """Create or reopen the checkpoints in `folder`; unfinished ones of a killed run are cleared away. `asynchronous`:
    None is as `beside_steps` has it. What was begun is on disk when the `with` block has ended. UserError as of
    `Checkpoints.wait`."""
    options = ocp.CheckpointManagerOptions(
        max_to_keep=KEPT,
        create=True,
        cleanup_tmp_directories=True,
        enable_async_checkpointing=beside_steps() if asynchronous is None else asynchronous,
    )
    with _readers_unheard(), ocp.CheckpointManager(folder.absolute(), options=options) as manager:
        checkpoints = Checkpoints(manager, folder, inputs, emit)
        yield checkpoints
        checkpoints.wait()


def _tree(state: TrainState) -> dict[str, Any]:
    return {"params": state.params, "opt_state": state.opt_state}


def _checksums(state: TrainState) -> list[int]:
    """One for each leaf, whichever way it is divided over devices: what orbax reads back is not checked by itself."""
    return np.asarray(_sums(jax.tree.leaves(_tree(state)))).tolist()


@jax.jit
def _sums(leaves: list[jax.Array]) -> jax.Array:
    """uint32, for each leaf (of 32-bit numbers) the sum of its bits, each number times its odd place: no change of a
    single one goes unseen, and hardly any change of several. Sums modulo 2^32 know no order."""

    def of_leaf(leaf: jax.Array) -> jax.Array:
        places = jnp.uint32(0)
        for axis in range(leaf.ndim):
            stride = np.uint32(math.prod(leaf.shape[axis + 1 :]) % 2**32)
            places += stride * jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis)
        return jnp.sum(jax.lax.bitcast_convert_type(leaf, jnp.uint32) * (2 * places + 1), dtype=jnp.uint32)

    return jnp.stack([of_leaf(leaf) for leaf in leaves])


@contextmanager
def _readers_unheard() -> Iterator[None]:
    """Where a restore fails, orbax leaves the readers of other leaves behind: half run, or about to tell an event loop
    that is closed by then. Nobody hears of them, whenever they come to it."""
    told = sys.unraisablehook

    def others_only(unraisable: sys.UnraisableHookArgs) -> None:
        ended_half_way = isinstance(unraisable.object, CoroutineType)
        if not (ended_half_way or str(unraisable.exc_value) == "Event loop is closed"):
            told(unraisable)

    sys.unraisablehook = others_only
    try:
        yield
    finally:
        sys.unraisablehook = told


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
