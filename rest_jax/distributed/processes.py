"""The processes that a launcher started together: who says that there are others, and how they become one JAX.

Finding each other is JAX's own affair (`jax.distributed`). Here it is only said beforehand who will be asked, and why,
and JAX is held to that.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import jax

from rest_jax.core.errors import UserError

COUNT, INDEX, COORDINATOR = "REST_JAX_PROCESSES", "REST_JAX_PROCESS", "JAX_COORDINATOR_ADDRESS"
"""How whoever starts processes by hand says so: as many, this one's number from 0, and host:port of number 0."""

SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
OPEN_MPI = ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK")
TPU_HOSTS = ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES")
"""Variables by which JAX's detectors know Slurm (all of them), Open MPI (all) and a TPU slice of GKE (either)."""

MEND = f"see that all of them were started, or set {COUNT}, {INDEX} and {COORDINATOR}=HOST:PORT in each"


@dataclass(frozen=True)
class Launched:
    """What this process is among those that were started with it."""

    why: str = "no launcher says that there are others"
    """Who says so, and by what."""
    count: int = 1
    index: int = 0
    method: str = "deactivate"
    """The detector of `jax.distributed` that is to find the others; deactivate: none, the coordinator is told."""
    coordinator: str | None = None

    def __post_init__(self) -> None:
        if self.index >= self.count:
            raise UserError(f"{self.why}: there is no process {self.index} of {self.count}; they count from 0")

    def __str__(self) -> str:
        return f"process {self.index} of {self.count} ({self.why})"


def launched(environ: Mapping[str, str] = os.environ) -> Launched:
    """What the environment says of this process; the user's own word (`COUNT`) stands before that of a launcher.

    Kubernetes is not asked: an Indexed Job is as often many runs as one. Nor is the metadata server of a TPU VM:
    `group.joined` sees by JAX's own count what it would say. Raises UserError for numbers that do not go together.
    """
    if COUNT in environ:
        return _by_hand(environ)
    if INDEX in environ:
        raise UserError(f"{INDEX} is set and {COUNT} is not; set both, or none")
    if all(name in environ for name in OPEN_MPI):
        return _by_launcher(environ, "Open MPI", "ompi", *OPEN_MPI[:2])
    if all(name in environ for name in SLURM):
        return _by_launcher(environ, "Slurm", "slurm", "SLURM_NTASKS", "SLURM_PROCID")
    hosts = next((name for name in TPU_HOSTS if name in environ), None)
    return Launched() if hosts is None else _of_a_slice(environ, hosts)


def start(processes: Launched, within_s: int) -> None:
    """Make the processes one JAX, whose devices are those of all of them; to be called before anything asks for a
    device. One process alone stays as it is, and so do those that are one already.

    SIGTERM stays what it is without others: JAX would only note it. JAX ends this process itself, with a trace, where
    the others do not come in time. Raises UserError for what it refuses.
    """
    if processes.count == 1 or jax.distributed.is_initialized():
        return
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            processes.coordinator,
            processes.count,
            processes.index,
            cluster_detection_method=processes.method,
            initialization_timeout=within_s,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{processes}: jax.distributed does not start: {error}; {MEND}") from error


def _by_hand(environ: Mapping[str, str]) -> Launched:
    count = _whole(environ, COUNT, least=1)
    why = f"{COUNT}={count}"
    if count == 1:
        return Launched(why)
    for name, meaning in ((INDEX, "its number, from 0"), (COORDINATOR, "HOST:PORT of process 0")):
        if name not in environ:
            raise UserError(f"{why} and no {name}; set it to {meaning}")
    host, _, port = environ[COORDINATOR].rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(f"{COORDINATOR}={environ[COORDINATOR]} is no HOST:PORT; set it to that of process 0")
    return Launched(why, count, _whole(environ, INDEX), coordinator=environ[COORDINATOR])


def _by_launcher(environ: Mapping[str, str], name: str, method: str, count: str, index: str) -> Launched:
    why = f"{name}: {count}={environ[count]}"
    return Launched(why, _whole(environ, count, least=1), _whole(environ, index), method)


def _of_a_slice(environ: Mapping[str, str], hosts: str) -> Launched:
    """GKE's variables on a TPU host: worker W of slice S is process S x workers + W, as in JAX."""
    workers, slices = len(environ[hosts].split(",")), _whole(environ, "MEGASCALE_NUM_SLICES", least=1, otherwise="1")
    index = _whole(environ, "MEGASCALE_SLICE_ID", otherwise="0") * workers + _whole(environ, "TPU_WORKER_ID")
    return Launched(f"GKE: {slices} x {workers} TPU hosts by {hosts}", slices * workers, index, "gketpu")


def _whole(environ: Mapping[str, str], name: str, *, least: int = 0, otherwise: str = "") -> int:
    text = environ.get(name, otherwise)
    if not text.isdecimal() or int(text) < least:
        raise UserError(f"{name}='{text}' is no whole number from {least} on; correct it, or set {COUNT}")
    return int(text)
