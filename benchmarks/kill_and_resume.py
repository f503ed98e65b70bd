"""Kill a run again and again, with and without its tool adapter, and see that nothing is lost or changed.

    python -m benchmarks.kill_and_resume CONFIG --kills 10 --json OUT [--set key=value]...

Runs the config once uninterrupted and once killed (SIGKILL, at random moments) and repeated until it ends; compares
the digests of the two folders, counts what was done twice, and looks for adapters that outlived their run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Result:
    """What a killed run did, beside an uninterrupted one."""

    kills: int = 0
    adapter_kills: int = 0
    stages_hit: dict[str, int] = field(default_factory=dict)
    same_digest: bool = False
    digest: str = ""
    trajectories: int = 0
    most_steps_repeated: int = 0
    """The most optimizer steps of one Improve that a kill caused to be done again."""
    orphans: int = 0
    seconds_uninterrupted: float = 0.0
    seconds_killed: float = 0.0


def kill_and_resume(
    config: Path, folder: Path, *, kills: int, longest_s: float, seed: int = 0, overrides: tuple[str, ...] = ()
) -> Result:
    """Run `config` twice below `folder`. Each kill comes after a random part of `longest_s` seconds of new work."""
    rng, result = random.Random(seed), Result()
    begun = time.monotonic()
    _run(config, folder / "whole", overrides).wait()
    result.seconds_uninterrupted = time.monotonic() - begun
    begun = time.monotonic()
    adapters: set[int] = set()
    while True:
        process = _run(config, folder / "killed", overrides)
        if result.kills < kills and _dies(process, folder / "killed", rng, longest_s, result, adapters):
            continue
        if process.wait() != 0:
            raise RuntimeError(f"the run ended with exit code {process.returncode}; see {folder / 'killed.log'}")
        break
    result.seconds_killed = time.monotonic() - begun
    digests = {name: _digest(folder / name) for name in ("whole", "killed")}
    result.digest, result.same_digest = digests["killed"], digests["whole"] == digests["killed"]
    result.most_steps_repeated = _steps_repeated(folder / "killed")
    result.trajectories = _trajectories(folder / "killed")
    result.orphans = sum(_alive(pid) for pid in adapters)
    return result


def _run(config: Path, run_dir: Path, overrides: tuple[str, ...]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "rest_jax.cli.main", "run", str(config), "--run-dir", str(run_dir)]
    command += [part for override in overrides for part in ("--set", override)]
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    with run_dir.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)


def _dies(
    process: subprocess.Popen[bytes],
    run_dir: Path,
    rng: random.Random,
    longest_s: float,
    result: Result,
    adapters: set[int],
) -> bool:
    """Kill the run at a random moment after its adapter is up; False when it ended by itself before."""
    while process.poll() is None and not _children(process.pid):
        time.sleep(0.05)
    until = time.monotonic() + rng.uniform(0, longest_s)
    while process.poll() is None and time.monotonic() < until:
        adapters.update(_children(process.pid))
        time.sleep(0.05)
    if process.poll() is not None:
        return False
    if result.kills % 3 == 1:
        for pid in _children(process.pid):
            os.kill(pid, signal.SIGKILL)
            result.adapter_kills += 1
        time.sleep(rng.uniform(0, 1.0))
        adapters.update(_children(process.pid))
    process.kill()
    process.wait()
    result.kills += 1
    stage = _open_stage(run_dir)
    result.stages_hit[stage] = result.stages_hit.get(stage, 0) + 1
    return True


def _open_stage(run_dir: Path) -> str:
    """The stage that was being worked on: claimed, and without a manifest."""
    claimed = (path.parent for path in (run_dir / "stages").rglob("inputs.json"))
    open_ = [f.relative_to(run_dir / "stages").as_posix() for f in claimed if not (f / "manifest.json").is_file()]
    return open_[0] if open_ else "between stages"


def _children(pid: int) -> set[int]:
    """The tool adapters of a run."""
    found = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in task.read_text().split()]
            found |= {c for c in children if b"rest_jax.tools" in Path(f"/proc/{c}/cmdline").read_bytes()}
        except OSError:  # it ended while we looked
            continue
    return found


def _alive(pid: int) -> bool:
    try:
        return b"rest_jax.tools" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _steps_repeated(run_dir: Path) -> int:
    """From metrics.jsonl: the most optimizer steps of one stage that one kill caused to be done again."""
    worst, last = 0, {}
    for line in (run_dir / "metrics.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry["kind"] == "metrics" and "step" in entry:
            worst = max(worst, last.get(entry["stage"], 0) - entry["step"] + 1)
            last[entry["stage"]] = entry["step"]
    return worst


def _trajectories(run_dir: Path) -> int:
    from rest_jax.rollout import store

    return sum(len(store.read(path)) for path in (run_dir / "stages").rglob("trajectories.parquet"))


def _digest(run_dir: Path) -> str:
    command = [sys.executable, "-m", "rest_jax.cli.main", "run-digest", str(run_dir)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder for the two runs")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--longest-s", type=float, default=40.0, help="a kill comes within this time of new work")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    result = kill_and_resume(
        options.config,
        options.folder,
        kills=options.kills,
        longest_s=options.longest_s,
        seed=options.seed,
        overrides=tuple(options.overrides),
    )
    options.json.write_text(json.dumps(asdict(result), indent=1) + "\n")
    print(json.dumps(asdict(result), indent=1))


if __name__ == "__main__":
    main()
