"""The settings of `rest-jax launch render`: how runs of one configuration are started elsewhere, each seed by itself.

What they hold is written into shell scripts and manifests, so text is one line, and names are names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from rest_jax.config.limits import Natural, Positive

NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
"""What Kubernetes, and a TPU, may be called, with room for a seed behind it."""

CHIPS: Mapping[str, int] = {
    "v4-8": 4,
    "v5litepod-1": 1,
    "v5litepod-4": 4,
    "v5litepod-8": 8,
    "v5p-8": 4,
    "v6e-1": 1,
    "v6e-4": 4,
    "v6e-8": 8,
}
"""The types of TPU VM that are one host, with their chips (v4 and v5p are named by their cores, two of a chip)."""


class LaunchSettings(Protocol):
    """What every target's settings have."""

    @property
    def runs(self) -> RunsSettings: ...
    @property
    def devices(self) -> int:
        """Devices of one run."""
        ...


@dataclass(frozen=True)
class RunsSettings:
    """The runs: one configuration in several seeds, each a run of its own."""

    name: str = "rest-jax"
    """What the jobs are called."""
    config: str = "configs/quickstart.yaml"
    """The configuration, as the machines see it."""
    seeds: Positive = 4
    """Seeds 0, 1, …: a run for each."""
    folder: str = "runs/quickstart"
    """Seed S runs in FOLDER/seed-S."""
    settings: tuple[str, ...] = ()
    """What the runs change in the configuration, each KEY=VALUE, as of `rest-jax run --set`."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if not NAME.fullmatch(self.name):
            yield "name", f"expected up to 40 of a-z, 0-9 and -, from a letter on, got '{self.name}'"
        for setting in self.settings:
            if "=" not in setting:
                yield "settings", f"expected KEY=VALUE, got '{setting}'"
        yield from _broken_lines(self)


@dataclass(frozen=True)
class LocalSettings:
    """Processes on this machine, some seeds at a time."""

    runs: RunsSettings = field(default_factory=RunsSettings)
    at_once: Positive = 2
    """Runs at a time."""
    gpus: bool = False
    """Each of them sees one GPU of its own, so that as many are needed as run at a time."""

    @property
    def devices(self) -> int:
        return 1


@dataclass(frozen=True)
class SlurmSettings:
    """A job array, a seed each."""

    runs: RunsSettings = field(default_factory=RunsSettings)
    at_once: Positive | None = None
    """The most jobs of the array that run at a time; null: as many as Slurm likes."""
    gpus: Natural = 1
    """GPUs of a run."""
    cpus: Positive = 8
    """CPUs of a run; its tools live on them too."""
    memory_gib: Positive = 32
    """Memory of a run's host."""
    hours: Positive = 4
    """When Slurm ends a job; the same array, submitted again, goes on."""
    options: tuple[str, ...] = ()
    """Further options of sbatch, such as --partition=long."""
    environment: str = ". .venv/bin/activate"
    """The line of shell after which there is a command `rest-jax`."""

    @property
    def devices(self) -> int:
        return max(1, self.gpus)

    def conflicts(self) -> Iterator[tuple[str, str]]:
        for option in self.options:
            if not option.startswith("--"):
                yield "options", f"expected --NAME or --NAME=VALUE, got '{option}'"
        yield from _broken_lines(self)


@dataclass(frozen=True)
class ClusterSettings:
    """What the pods of a run need from the cluster."""

    image: str = "REGISTRY/rest_jax"
    """The image that launch/gke/Dockerfile makes, where the cluster finds it."""
    claim: str = "rest-jax"
    """The PersistentVolumeClaim that all pods mount at /runs: many writers, with locks and renames, so no bucket."""
    secret: str = "rest-jax"
    """The Secret whose key `token` holds what the tool adapter asks of its callers."""
    queue: str | None = None
    """Kueue's LocalQueue that admits the JobSet; null: none."""
    at_once: Positive | None = None
    """The most seeds that run at a time; null: all."""
    cpus: Positive = 4
    """CPUs of a run's pod."""
    memory_gib: Positive = 32
    """Memory of a run's pod."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from _broken_lines(self)


@dataclass(frozen=True)
class AdapterSettings:
    """The tool adapter: a job on CPUs that serves the runs of all seeds."""

    prepare: tuple[str, ...] = ("atlas",)
    """What is made or fetched before, into /runs/cache/tasks: the arguments of `rest-jax tasks check`; []: nothing."""
    serve: tuple[str, ...] = ("--corpus=/runs/cache/tasks/atlas-7.jsonl",)
    """What it serves: the arguments of `rest-jax tools serve`."""
    cpus: Positive = 4
    """CPUs of its pod."""
    memory_gib: Positive = 8
    """Memory of its pod."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from _broken_lines(self)


@dataclass(frozen=True)
class TpuNode:
    """A node of GKE with TPU chips, all of them one run's."""

    accelerator: Literal["tpu-v4-podslice", "tpu-v5-lite-podslice", "tpu-v5p-slice", "tpu-v6e-slice"] = "tpu-v6e-slice"
    """The label cloud.google.com/gke-tpu-accelerator of the node pool."""
    topology: Literal["1x1", "2x2", "2x4", "2x2x1"] = "1x1"
    """The label cloud.google.com/gke-tpu-topology: one host's, as a run is one process."""

    @property
    def devices(self) -> int:
        return math.prod(int(side) for side in self.topology.split("x"))

    @property
    def selector(self) -> Mapping[str, str]:
        """The labels of its nodes."""
        label = "cloud.google.com/gke-tpu-"
        return {f"{label}accelerator": self.accelerator, f"{label}topology": self.topology}

    @property
    def limits(self) -> Mapping[str, int]:
        """What a pod takes of the node."""
        return {"google.com/tpu": self.devices}

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if (self.accelerator in ("tpu-v4-podslice", "tpu-v5p-slice")) is not (self.topology == "2x2x1"):
            yield (
                "topology",
                f"{self.topology} is no host of {self.accelerator}; v4 and v5p have 2x2x1, others not",
            )


@dataclass(frozen=True)
class GpuNode:
    """A node of GKE with GPUs, some of them one run's."""

    accelerator: str = "nvidia-l4"
    """The label cloud.google.com/gke-accelerator of the node pool."""
    gpus: Positive = 1
    """GPUs of a run."""

    @property
    def devices(self) -> int:
        return self.gpus

    @property
    def selector(self) -> Mapping[str, str]:
        """The labels of its nodes."""
        return {"cloud.google.com/gke-accelerator": self.accelerator}

    @property
    def limits(self) -> Mapping[str, int]:
        """What a pod takes of the node."""
        return {"nvidia.com/gpu": self.gpus}


@dataclass(frozen=True)
class GkeSettings:
    """A JobSet on GKE: tools on CPUs, an accelerator for each seed, and their table."""

    runs: RunsSettings = field(default_factory=lambda: RunsSettings(folder="/runs/quickstart"))
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    adapter: AdapterSettings = field(default_factory=AdapterSettings)

    @property
    def tools_url(self) -> str:
        """Where the adapter answers: the name that a JobSet gives to the first pod of its job `tools`."""
        return f"http://{self.runs.name}-tools-0-0.{self.runs.name}:8765"

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if not self.runs.folder.startswith("/runs/"):
            yield "runs", f"folder {self.runs.folder} goes with its pod; the volume that stays is mounted at /runs"


@dataclass(frozen=True)
class GkeTpuSettings(GkeSettings):
    """The same, with a TPU host for each seed."""

    node: TpuNode = field(default_factory=TpuNode)

    @property
    def devices(self) -> int:
        return self.node.devices


@dataclass(frozen=True)
class GkeGpuSettings(GkeSettings):
    """The same, with GPUs for each seed."""

    node: GpuNode = field(default_factory=GpuNode)

    @property
    def devices(self) -> int:
        return self.node.devices


@dataclass(frozen=True)
class TpuVmSettings:
    """A TPU VM for each seed, by queued resources."""

    runs: RunsSettings = field(default_factory=RunsSettings)
    zone: str = "us-east5-b"
    """The zone, which has to have the accelerator."""
    accelerator: Literal["v4-8", "v5litepod-1", "v5litepod-4", "v5litepod-8", "v5p-8", "v6e-1", "v6e-4", "v6e-8"] = (
        "v6e-1"
    )
    """The type of TPU: one host's, as a run is one process."""
    version: str = "v2-alpha-tpuv6e"
    """The VM's software, as Google names it for the accelerator."""
    spot: bool = False
    """Cheaper, and taken away at any time with all that it holds."""
    repository: str = "https://github.com/rest-jax/rest_jax"
    """What is cloned and installed on each VM."""

    @property
    def devices(self) -> int:
        return CHIPS[self.accelerator]

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.runs.folder.startswith(("/", "~")):
            yield "runs", f"folder {self.runs.folder} is not relative; it is one here, and on each VM below its clone"
        yield from _broken_lines(self)


def _broken_lines(settings: Any) -> Iterator[tuple[str, str]]:
    """The fields whose text is more than one line, or holds other control characters."""
    for name, value in vars(settings).items():
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and not text.isprintable():
                yield name, f"expected one line of text, got {text!r}"
