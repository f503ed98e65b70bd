"""`rest-jax launch render`: settings in, texts of files out. The defaults' own are committed under launch/."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import jinja2

from rest_jax.config.launch import (
    GkeGpuSettings,
    GkeSettings,
    GkeTpuSettings,
    LaunchSettings,
    LocalSettings,
    SlurmSettings,
    TpuVmSettings,
)
from rest_jax.config.limits import checked
from rest_jax.config.loader import load
from rest_jax.config.overrides import overridden
from rest_jax.config.settings import RestConfig
from rest_jax.core.errors import UserError
from rest_jax.core.files import written_whole


@dataclass(frozen=True)
class Target:
    """Where runs may be started."""

    defaults: LaunchSettings
    files: Mapping[str, str]
    """Each file that is written, with its template."""


IMAGE = {"gke/Dockerfile": "gke/Dockerfile.j2"}
TARGETS: Mapping[str, Target] = {
    "local_multiprocess": Target(LocalSettings(), {"local_multiprocess.sh": "local_multiprocess.sh.j2"}),
    "slurm": Target(SlurmSettings(), {"slurm/seeds.sbatch": "slurm/seeds.sbatch.j2"}),
    "gke_tpu": Target(GkeTpuSettings(), {"gke/tpu.yaml": "gke/jobset.yaml.j2", **IMAGE}),
    "gke_gpu": Target(GkeGpuSettings(), {"gke/gpu.yaml": "gke/jobset.yaml.j2", **IMAGE}),
    "tpu_vm": Target(TpuVmSettings(), {"tpu_vm/seeds.sh": "tpu_vm/seeds.sh.j2"}),
}
"""By their names on the command line."""


def rendered(name: str, overrides: Sequence[str] = ()) -> dict[str, str]:
    """The files of a target, path and text, with its settings changed by `overrides` (a.b=c).

    Where the runs' configuration is here, it is read with all that the runs will change in it. Raises UserError for
    settings that will not do.
    """
    target = TARGETS[name]
    settings = checked(overridden(target.defaults, overrides))
    changes = run_settings(settings)
    if Path(settings.runs.config).is_file():
        load(settings.runs.config, RestConfig, changes)
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"sh": _words, "yaml": json.dumps, "argument": _argument}
    templates = resources.files("rest_jax.launch") / "templates"
    return {
        path: environment.from_string((templates / template).read_text(encoding="utf-8")).render(
            settings=settings, runs=settings.runs, changes=[f"--set={change}" for change in changes], target=name
        )
        for path, template in target.files.items()
    }


def run_settings(settings: LaunchSettings) -> list[str]:
    """What the runs change in their configuration: a sampler on each device, whose tools they call, and what the user
    asks for."""
    samplers = [f"engine.replicas={settings.devices}"] if settings.devices > 1 else []
    tools = [f"tools.url={settings.tools_url}"] if isinstance(settings, GkeSettings) else []
    return [*samplers, *tools, *settings.runs.settings]


def write(files: Mapping[str, str], folder: Path) -> list[Path]:
    """Write them below `folder`, scripts as programs; returns their paths. UserError rather than writing over what
    holds something else."""
    paths = {folder / path: text for path, text in files.items()}
    for path, text in paths.items():
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise UserError(f"{path}: holds something else; remove it, or give another --out")
    for path, text in paths.items():
        with written_whole(path) as part:
            part.write_text(text, encoding="utf-8")
            if text.startswith("#!"):
                part.chmod(0o755)
    return list(paths)


def _words(value: str | Sequence[str]) -> str:
    """One or more words of a shell, quoted where that has to be."""
    return shlex.join([value] if isinstance(value, str) else value)


def _argument(text: str, behind: str = "") -> str:
    """A container's argument, as YAML. Kubernetes puts a variable's value in place of `$(NAME)`, but not of `$$(NAME)`:
    only in what stands `behind` the text one is meant."""
    return json.dumps(text.replace("$(", "$$(") + behind)
