"""A run is a folder of stages, each done or not done.

A stage works inside its own folder with resumable parts (a journal, checkpoints) and is done when its
`manifest.json` stands there: written last, atomically. Repeating a run skips what is done, if it was done from the
same inputs; anything else is another run and is refused, never overwritten.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rest_jax.config.loader import Loaded
from rest_jax.config.plain import as_plain, differing
from rest_jax.core.errors import UserError
from rest_jax.core.events import Event, Listener, remembering, silent, warning
from rest_jax.core.files import PART, write_json
from rest_jax.distributed.group import Group

RUN_SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
RUN = "run.json"
SUMMARY = "summary.json"
"""Written at the end: it is there when the run has finished."""
STAGES = "stages"
JOURNAL = "journal.jsonl"
"""Beside a stage that samples: what was begun and finished."""
CLOCK = "clock.json"
"""Beside an unfinished stage: when its last attempt began, and what those before it took."""
WARNINGS = "warnings.json"
BEFORE_THE_MARKER = (".lock", "config.yaml", "replies")
"""What a preflight, or a run that was killed at its very beginning, may have left, beside parts of files."""


@dataclass(frozen=True)
class Done:
    """A finished stage: its folder, what it was made from, and the small results that later stages read."""

    name: str
    folder: Path
    inputs: Mapping[str, Any]
    results: Mapping[str, Any]
    seconds: float
    place: int
    """How many stages of the run come before it."""


Work = Callable[[Path], Mapping[str, Any]]
"""Fills a stage's folder, going on from what it finds there, and returns small JSON results."""


@dataclass
class RunFolder:
    """The folder of one run, held by one process at a time, or by one group of them.

    `stages` collects what this process finished or found finished, in order; `warnings` each warning of the run once,
    those of earlier processes included. Of a group all do a stage's work together, and the first alone writes.
    """

    path: Path
    emit: Listener
    config_digest: str
    environment: Mapping[str, Any]
    warnings: list[str]
    stages: list[Done] = field(default_factory=list)
    group: Group = field(default_factory=Group)

    def stage(self, name: str, inputs: Mapping[str, Any], work: Work) -> Done:
        """Do a stage, or find it done from the same inputs (settings, data, weights, seeds: whatever decides it).

        Raises UserError when the folder holds this stage made from other inputs.
        """
        done = self._led(name, inputs, work) if self.group.first else self._followed(name, work)
        self.stages.append(done)
        return done

    def _led(self, name: str, inputs: Mapping[str, Any], work: Work) -> Done:
        """The stage as the first process does it."""
        folder = self.path / STAGES / name
        self.emit(Event("stage_started", {"stage": name}))
        done = _read(folder, name)
        skipped, before = done is not None, 0.0
        if done is None:
            before = _claim(folder, inputs)
        else:
            _refuse_other_inputs(folder, done.inputs, inputs)
        self.group.told([name, skipped])
        if done is None:
            begun = time.monotonic()
            results = work(folder)
            self._hear()
            made_from = as_plain(inputs, decisive=True)
            done = Done(name, folder, made_from, results, before + time.monotonic() - begun, len(self.stages))
            self._commit(done)
        self.group.told([done.inputs, done.results, done.seconds, done.place])
        self.emit(Event("stage_finished", {"stage": name, "seconds": done.seconds, "skipped": skipped}))
        return done

    def _followed(self, name: str, work: Work) -> Done:
        """The stage as the others do it: they have a part in its work, and what it leaves behind is the first's."""
        named, skipped = self.group.told()
        if named != name:
            raise RuntimeError(f"process 0 has come to stage {named}, process {self.group.index} to {name}")
        if not skipped:
            with tempfile.TemporaryDirectory(prefix="rest_jax-") as scratch:
                work(Path(scratch))
            self.group.shared(self.warnings)
        return Done(name, self.path / STAGES / name, *self.group.told())

    def _hear(self) -> None:
        """Wait until all have done their work, and pass on what the others alone have to warn of."""
        for said in self.group.shared([]):
            for text in said:
                if text not in self.warnings:
                    warning(self.emit, text)

    def _commit(self, done: Done) -> None:
        manifest = {
            "schema_version": RUN_SCHEMA_VERSION,
            "name": done.name,
            "config_digest": self.config_digest,
            "environment": dict(self.environment),
            "inputs": done.inputs,
            "results": done.results,
            "seconds": round(done.seconds, 3),
            "place": done.place,
        }
        write_json(done.folder / MANIFEST, manifest)
        (done.folder / CLOCK).unlink(missing_ok=True)


@contextlib.contextmanager
def open_run(
    path: Path, config: Loaded[Any], environment: Mapping[str, Any], emit: Listener, group: Group | None = None
) -> Iterator[RunFolder]:
    """Create or reopen a run's folder and hold it, for all of a group.

    `environment` is what bits depend on beside the config; going on in another one is worth a warning. Raises
    UserError when the folder holds stages of another config, was written by another schema version, or is in use, and
    when the processes of the group have not the same config and environment.
    """
    group = group or Group()
    _refuse_unlike(path, group.shared([config.digest, dict(environment)]))
    if not group.first:
        group.told()  # the folder is there
        if not is_run(path):
            raise UserError(f"{path}: process {group.index} finds no run there; give all processes one shared folder")
        warnings: list[str] = []
        with held(path, f".lock-{group.index}"):
            yield RunFolder(path, remembering(warnings, silent), config.digest, environment, warnings, group=group)
        return
    with held(path):
        _check_identity(path, config, environment)
        warnings = _json(path / WARNINGS) if (path / WARNINGS).is_file() else []
        run = RunFolder(path, _listening(path, emit, warnings), config.digest, environment, warnings, group=group)
        _warn_of_another(run.emit, read_environment(path), environment)
        group.told()
        yield run


def _refuse_unlike(path: Path, processes: Sequence[Any]) -> None:
    """All processes of a group do the same, and in the same bits."""
    (digest, environment), *others = processes
    for index, (other_digest, other) in enumerate(others, 1):
        unlike = [name for name in environment if other.get(name) != environment[name]]
        if other_digest != digest:
            unlike.append("config")
        if unlike:
            raise UserError(f"{path}: process {index} has another {', '.join(unlike)} than process 0; start them alike")


@contextlib.contextmanager
def held(path: Path, by: str = ".lock") -> Iterator[None]:
    """Make a folder and hold it for a `with` block, `by` a file in it. Raises UserError when another process does."""
    path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path / by)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{path}: another process works in this folder; wait for it, or name another folder") from None
    try:
        yield
    finally:
        lock.release()


def is_run(path: Path) -> bool:
    """Whether a folder is a run's."""
    return (path / RUN).is_file()


def read_environment(path: Path) -> Mapping[str, Any]:
    """The versions and devices with which a run began."""
    return _json(path / RUN).get("environment", {})


def other_settings(path: Path, config: Loaded[Any]) -> list[str]:
    """The names of the settings that a run was made with other values of; "" stands for those of an older rest_jax."""
    identity = _json(path / RUN)
    return [] if identity["config_digest"] == config.digest else differing(identity.get("config"), config.value)


def made_otherwise(path: Path, other: Sequence[str], mend: str) -> UserError:
    """What there is to say of a run, or of a file, that was made with other values of these settings."""
    named = ", ".join(filter(None, other)) or "or by an older rest_jax, which had other settings"
    return UserError(f"{path}: made with another config ({named}); {mend}")


def finished_stages(path: Path) -> list[Done]:
    """The finished stages of a run's folder, in the order of the run. Raises UserError when it is no run folder."""
    if not is_run(path):
        raise UserError(f"{path}: not a run folder (no run.json); give the folder that `rest-jax run` wrote")
    _check_version(path, _json(path / RUN))
    root = path / STAGES
    found = (_read(file.parent, file.parent.relative_to(root).as_posix()) for file in root.rglob(MANIFEST))
    return sorted((done for done in found if done is not None), key=lambda done: (done.place, done.name))


def _listening(path: Path, emit: Listener, warnings: list[str]) -> Listener:
    """The listener, with every event named by the stage in which it happens (who works does not know its stage), and
    every new warning kept in the folder."""
    stage = ""
    told = remembering(warnings, emit, keep=lambda: write_json(path / WARNINGS, warnings))

    def listen(event: Event) -> None:
        nonlocal stage
        if event.kind == "stage_started":
            stage = event.data["stage"]
        elif stage and "stage" in event.data:
            event = Event(event.kind, {**event.data, "stage": stage})
        told(event)

    return listen


def _warn_of_another(emit: Listener, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = [f"{key} {before.get(key, 'unknown')}, now {now[key]}" for key in now if before.get(key) != now[key]]
    if changed:
        warning(emit, f"this run began with {'; '.join(changed)}: what is left may get other bits than it would have")


def discard(folder: Path) -> None:
    """Remove resumable parts that a finished stage no longer needs."""
    shutil.rmtree(folder, ignore_errors=True)


def _check_identity(path: Path, config: Loaded[Any], environment: Mapping[str, Any]) -> None:
    marker = path / RUN
    if marker.is_file():
        _check_version(path, _json(marker))
        other = other_settings(path, config)
        if not other:
            return
        # A config that was refused before its first stage may be mended: nothing was made with it.
        if (path / STAGES).is_dir():
            raise made_otherwise(path, other, "give another --run-dir, or that config")
    else:
        there = [entry.name for entry in path.iterdir() if not entry.name.endswith(PART)]
        foreign = [name for name in there if name not in BEFORE_THE_MARKER]
        if foreign:
            raise UserError(f"{path}: holds other files ({foreign[0]} …) and is no run folder; give an empty --run-dir")
    (path / "config.yaml").write_text(config.text, encoding="utf-8")
    decisive = as_plain(config.value, decisive=True)
    identity = {"schema_version": RUN_SCHEMA_VERSION, "config_digest": config.digest, "config": decisive}
    write_json(marker, {**identity, "environment": dict(environment)})


def _check_version(path: Path, identity: Mapping[str, Any]) -> None:
    if identity.get("schema_version") != RUN_SCHEMA_VERSION:
        raise UserError(
            f"{path}: run folder of schema version {identity.get('schema_version')}, this rest_jax reads "
            f"{RUN_SCHEMA_VERSION}; read it with the rest_jax that wrote it, or start a new --run-dir"
        )


def _claim(folder: Path, inputs: Mapping[str, Any]) -> float:
    """Note what an unfinished stage is being made from; parts made from other inputs are refused.

    Returns the seconds that earlier attempts took.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = _spent(folder)
    for torn in folder.rglob(f"*{PART}"):  # a kill while a file was written
        torn.unlink()
    claim = folder / "inputs.json"
    if claim.is_file():
        _refuse_other_inputs(folder, _json(claim), inputs)
    else:
        write_json(claim, as_plain(inputs, decisive=True))
    write_json(folder / CLOCK, {"before": before, "begun": time.time()})
    return before


def _spent(folder: Path) -> float:
    """Seconds of all earlier attempts at a stage. A killed one could not say when it ended: the last thing that it
    wrote does."""
    if not (folder / CLOCK).is_file():
        return 0.0
    clock = _json(folder / CLOCK)
    wrote = max(path.stat().st_mtime for path in folder.rglob("*") if path.is_file())
    return clock["before"] + max(0.0, wrote - clock["begun"])


def _refuse_other_inputs(folder: Path, made_from: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
    if other := changed(made_from, inputs):
        raise UserError(f"{folder}: made from another {', '.join(other)}; remove this folder, or start a new --run-dir")


def changed(before: Mapping[str, Any], inputs: Mapping[str, Any]) -> list[str]:
    """The names of the inputs that are not what they were."""
    return sorted({name.partition(".")[0] for name in differing(before, inputs)})


def _read(folder: Path, name: str) -> Done | None:
    path = folder / MANIFEST
    if not path.is_file():
        return None
    manifest = _json(path)
    _check_version(folder, manifest)
    return Done(name, folder, manifest["inputs"], manifest["results"], manifest["seconds"], manifest["place"])


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise UserError(f"{path}: not valid JSON; remove the folder {path.parent} to make it again") from None
