"""Kill a run again and again, with and without its tool adapter, and see that nothing is lost or changed.

    python -m benchmarks.kill_and_resume CONFIG --folder F --kills 12 --json OUT [--set key=value]...

Runs the config once uninterrupted. Then runs it once more, kills it (SIGKILL or SIGTERM, as drawn) at moments drawn
from within its stages, and repeats the command after each. A moment is a count in the run's own files (lines of a
journal, optimizer steps), never a time, so that a slow machine is hit where a fast one is. From six kills on, one comes
before the adapter is up, one hits the adapter alone, and every kind of stage is hit. The journals, metrics and digests
then say what the kills cost: at most the trajectories in flight, and one checkpoint interval (two on an
accelerator, where a checkpoint is written while the next steps are made).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rest_jax.cli.main import TERMINATED
from rest_jax.core.files import write_json
from rest_jax.recipes.digest import run_digest
from rest_jax.recipes.stages import MANIFEST, Done, finished_stages, read_environment
from rest_jax.recipes.workbench import JOURNAL, TRAJECTORIES
from rest_jax.rollout import store

STAGES = ("grow", "reward", "improve", "evaluate")
KINDS = ("start", *STAGES, "adapter")
"""What a kill may aim at: a run whose adapter is not up yet, a kind of stage, or the adapter alone."""
POLL_S = 0.0005
ORPHANS_S = 30.0
"""How long adapters may take to notice that their run is gone."""


@dataclass(frozen=True)
class Aim:
    """A kill to come, once the stage's journal has `at` lines or its training `at` steps."""

    kind: str
    by: signal.Signals
    stage: str = ""
    at: int = 0


@dataclass(frozen=True)
class Shot:
    """A kill that came: how many records its stage had then (lines of the journal, or steps told)."""

    aim: Aim
    records: int


@dataclass(frozen=True)
class Kill:
    """A kill, and what it cost."""

    kind: str
    by: str
    stage: str
    moment: str
    in_flight: int
    """Trajectories begun and not finished."""
    recomputed: int
    """Trajectories begun again, or optimizer steps done again."""
    allowed: int
    """What may be done again: the trajectories in flight, or checkpoint intervals of steps."""


@dataclass(frozen=True)
class Result:
    """What a killed run did, beside an uninterrupted one."""

    kills: tuple[Kill, ...]
    missed: tuple[Aim, ...]
    """Aims whose stage ended before their moment was seen, or whose run before it was killed."""
    same_digest: bool
    digest: str
    trajectories: int
    orphans: int
    seconds_uninterrupted: float
    seconds_killed: float

    @property
    def within_bounds(self) -> bool:
        return all(kill.recomputed <= kill.allowed for kill in self.kills)


def kill_and_resume(config: Path, folder: Path, *, kills: int, seed: int = 0, overrides: Sequence[str] = ()) -> Result:
    """Run `config` twice below `folder`, the second time with so many kills. Linux only: it looks into /proc."""
    whole, killed, journals = folder / "whole", folder / "killed", folder / "journals"
    journals.mkdir(parents=True)
    begun = time.monotonic()
    _ended(_started(config, whole, overrides), whole)
    seconds_uninterrupted = time.monotonic() - begun
    stages = {done.name: done for done in finished_stages(whole)}
    aims = _aims(list(stages.values()), kills, random.Random(seed))
    shots: list[Shot] = []
    missed: list[Aim] = []
    adapters: set[int] = set()
    begun = time.monotonic()
    process = _started(config, killed, overrides)
    for aim in aims:
        if process.poll() is not None:
            process = _started(config, killed, overrides)
        watched = _Records(killed, aim)
        if not _comes(process, killed, aim, watched, adapters):
            missed.append(aim)
            continue
        if aim.kind == "adapter":
            for pid in _adapters(process.pid):
                os.kill(pid, signal.SIGKILL)
        else:
            process.send_signal(aim.by)
            if process.wait() == 0:
                missed.append(aim)
                continue
            if process.returncode not in (-signal.SIGKILL, TERMINATED):
                raise _failed(process, killed)
        shots.append(Shot(aim, watched.read()))
        watched.keep(journals)
    if process.poll() is not None:
        process = _started(config, killed, overrides)
    _ended(process, killed, lambda: adapters.update(_adapters(process.pid)))
    digests = [run_digest(run) for run in (whole, killed)]
    return Result(
        kills=tuple(_cost(shot, shots[place + 1 :], stages, killed, journals) for place, shot in enumerate(shots)),
        missed=tuple(missed),
        same_digest=digests[0] == digests[1],
        digest=digests[1],
        trajectories=sum(len(store.read(path)) for path in (killed / "stages").rglob(TRAJECTORIES)),
        orphans=_outliving(adapters),
        seconds_uninterrupted=seconds_uninterrupted,
        seconds_killed=time.monotonic() - begun,
    )


def _aims(stages: Sequence[Done], kills: int, rng: random.Random) -> list[Aim]:
    """So many aims in the order of the run: one of each kind first, then of the kinds that take long."""
    kinds = [*KINDS, *rng.choices(("grow", "improve", "evaluate"), k=max(0, kills - len(KINDS)))][:kills]
    place = {done.name: done.place for done in stages}
    aims = [_aim(kind, stages, rng) for kind in kinds]
    # Rewards come when all of a Grow's trajectories are there, and so after all that aims at its journal.
    return sorted(aims, key=lambda aim: (place.get(aim.stage, -1), aim.kind == "reward", aim.at))


def _aim(kind: str, stages: Sequence[Done], rng: random.Random) -> Aim:
    by = signal.SIGKILL if kind == "adapter" else rng.choice((signal.SIGKILL, signal.SIGTERM))
    if kind == "start":
        return Aim(kind, by)
    where = {"reward": ("grow",), "adapter": ("grow", "evaluate")}.get(kind, (kind,))
    done = rng.choice([done for done in stages if _kind(done) in where])
    if kind == "reward":
        return Aim(kind, by, done.name)
    if kind == "improve":
        return Aim(kind, by, done.name, rng.randint(1, max(1, len(done.results["losses"]) - 1)))
    return Aim(kind, by, done.name, rng.randint(2, max(2, round(0.8 * _journal_lines(done)))))


def _kind(done: Done) -> str:
    if "losses" in done.results:
        return "improve"
    last = done.name.rpartition("/")[2]
    return "evaluate" if last.startswith("evaluate") else last


def _journal_lines(done: Done) -> int:
    """A head; and for each trajectory its beginning, its replies and its end."""
    return 1 + sum(2 + len(trajectory.tool_calls) for trajectory in store.read(done.folder / TRAJECTORIES))


class _Records:
    """The records of an aim's stage, followed as they are written: whole lines of its journal, or its steps."""

    def __init__(self, run: Path, aim: Aim) -> None:
        self._aim = aim
        self._folder = run / "stages" / aim.stage
        self._path = run / "metrics.jsonl" if aim.kind == "improve" else self._folder / JOURNAL
        self._offset = 0
        self._position = 0
        self._count = 0
        self._at_first = self.read()

    def read(self) -> int:
        """How many there are now."""
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                self._take(line)
        return self._count

    def _take(self, line: bytes) -> None:
        if self._aim.kind == "improve":
            entry = json.loads(line)
            if entry["kind"] != "metrics" or entry["stage"] != self._aim.stage:
                return
            self._position = entry["step"]
        else:
            self._position += 1
        self._count += 1

    def reached(self) -> bool:
        """Whether the moment is there. What stood there before this process began is not its work."""
        if self._aim.kind == "reward":
            return (self._folder / TRAJECTORIES).is_file()
        return self.read() > self._at_first and self._position >= self._aim.at

    def keep(self, journals: Path) -> None:
        """A second name for the journal: its stage removes the first one when it ends, and the content stays."""
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            if self._path.name == JOURNAL:
                os.link(self._path, journals / self._aim.stage.replace("/", "+"))


def _comes(process: subprocess.Popen[bytes], run: Path, aim: Aim, watched: _Records, adapters: set[int]) -> bool:
    """Wait for an aim's moment; False when its stage, or the run, ended without it. Notes the adapters seen."""
    looks = 0
    while process.poll() is None:
        looks += 1
        if aim.kind == "start" or looks % 200 == 0:
            adapters.update(_adapters(process.pid))
        if aim.kind == "start":
            if adapters:
                return True
        elif (run / "stages" / aim.stage / MANIFEST).is_file():
            return False
        elif watched.reached():
            return True
        time.sleep(POLL_S)
    return False


def _cost(shot: Shot, later: Sequence[Shot], stages: dict[str, Done], run: Path, journals: Path) -> Kill:
    """What was done again between a kill and the next one of its stage."""
    aim = shot.aim
    end = next((other.records for other in later if other.aim.stage == aim.stage), None)
    by = aim.by.name
    if aim.kind == "start":
        return Kill(aim.kind, by, "", "the adapter was starting", 0, 0, 0)
    if aim.kind == "improve":
        settings = stages[aim.stage].inputs["improve"]
        steps = [entry["step"] for entry in _lines(run / "metrics.jsonl") if _tells_step(entry, aim.stage)]
        after = steps[shot.records : end]
        again = max(0, steps[shot.records - 1] - after[0] + 1) if after else 0
        moment = f"after step {steps[shot.records - 1]} of {settings['steps']}"
        intervals = 1 if read_environment(run)["platform"] == "cpu" else 2
        return Kill(aim.kind, by, aim.stage, moment, 0, again, intervals * settings["checkpoint_every"])
    journal = _lines(journals / aim.stage.replace("/", "+"))
    before, after = journal[: shot.records], journal[shot.records : end]
    begun, finished = _jobs(before, "begun"), _jobs(before, "trajectory")
    again = _jobs(after, "begun") & begun
    lost = again & finished
    if lost:
        raise RuntimeError(f"{aim.stage}: {len(lost)} finished trajectories were begun again, such as {min(lost)}")
    moment = "all sampled" if aim.kind == "reward" else f"line {shot.records} of {_journal_lines(stages[aim.stage])}"
    open_ = len(begun - finished)
    return Kill(aim.kind, by, aim.stage, moment, open_, len(again), open_)


def _tells_step(entry: dict[str, Any], stage: str) -> bool:
    return entry["kind"] == "metrics" and entry["stage"] == stage


def _jobs(records: Sequence[dict[str, Any]], kind: str) -> set[str]:
    return {record["job"] for record in records if record["kind"] == kind}


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _started(config: Path, run: Path, overrides: Sequence[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "rest_jax.cli.main", "run", str(config), "--run-dir", str(run)]
    command += [part for override in overrides for part in ("--set", override)]
    with run.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)


def _ended(process: subprocess.Popen[bytes], run: Path, look: Callable[[], None] = lambda: None) -> None:
    """Wait for a run's end, looking around now and then."""
    while process.poll() is None:
        look()
        time.sleep(0.1)
    if process.returncode != 0:
        raise _failed(process, run)


def _failed(process: subprocess.Popen[bytes], run: Path) -> RuntimeError:
    return RuntimeError(f"the run ended with exit code {process.returncode}; see {run.with_suffix('.log')}")


def _adapters(pid: int) -> set[int]:
    """The tool adapters that are children of a run."""
    found = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # it ended while we looked
            found |= {int(child) for child in task.read_text().split() if _is_adapter(int(child))}
    return found


def _is_adapter(pid: int) -> bool:
    try:
        return b"rest_jax.tools" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _outliving(adapters: set[int]) -> int:
    """How many adapters are still there, long after their runs."""
    give_up = time.monotonic() + ORPHANS_S
    while any(map(_is_adapter, adapters)) and time.monotonic() < give_up:
        time.sleep(0.1)
    return sum(map(_is_adapter, adapters))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder for the two runs")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    result = kill_and_resume(
        options.config, options.folder, kills=options.kills, seed=options.seed, overrides=options.overrides
    )
    told = {**asdict(result), "within_bounds": result.within_bounds}
    write_json(options.json, told)
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
