"""Twenty thousand short trajectories with tools that fail: what the process holds on to, and what becomes of each.

    python -m benchmarks.soak --json OUT [--trajectories 20000] [--quick]

The real runner, journal, engine (a tiny random model, more trajectories resident than rows), tool client and ReAct
agent, whose words are scripted: a search, then the gold answer. The adapter is a process of its own and fails at
random in every way that it can (`benchmarks/failing_tools.py`); queries that always fail make some trajectories
hopeless, and it is known which.

    slope        bytes of resident memory per trajectory, least squares over the last three quarters of the run
    files        open files and pipes; sockets apart, because idle connections are closed after a while
    unlucky      trajectories whose tools failed in all attempts, though none of their queries always does

Exit code 1 when a trajectory is missing or came twice, a hopeless one ended otherwise than masked, another ended as
what no fault of tools explains, or one without a mask got no reward.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.failing_tools import SETTINGS, cursed, failing_adapter
from benchmarks.ladder import Dubbed, Script, script
from benchmarks.measure import circumstances, publish, show
from benchmarks.models import GREEDY, random_model
from benchmarks.words import in_order
from rest_jax.agents.actions import Search, parse_action
from rest_jax.agents.limits import Limits
from rest_jax.agents.registry import agent
from rest_jax.config.settings import EngineSettings, TaskSettings
from rest_jax.core.cache import cache_folder
from rest_jax.core.effects import Role, Status
from rest_jax.core.trajectory import Question, Trajectory
from rest_jax.distributed.compilation import keep_compiled
from rest_jax.rollout.journal import Journal
from rest_jax.rollout.runner import rollout
from rest_jax.sampling.programs import compile_all
from rest_jax.sampling.replicas import Replicas
from rest_jax.tasks.registry import task
from rest_jax.tasks.task import Task
from rest_jax.tools.client import ToolClient

ENGINE = EngineSettings(rows=16, resident=64, block=4, widths=(32, 64, 128), chunk=32)
LENGTHS = {"turns": 2, "turn_tokens": 4, "observation_chars": 100}
LIMITS = Limits(**LENGTHS)
SEED = 3
SAMPLES = 100
"""How often the process is looked at."""
QUICK = 200
COLUMNS = {
    "trajectories": "trajectories",
    "seconds": "seconds",
    "slope B": "slope_bytes_per_trajectory",
    "first MB": "rss_first_mb",
    "last MB": "rss_last_mb",
    "most MB": "rss_most_mb",
    "files": "files",
    "sockets": "sockets",
    "threads": "threads",
    "journal B": "journal_bytes_per_trajectory",
}


@dataclass(frozen=True)
class Sample:
    """The process, when so many trajectories were done."""

    done: int
    rss: int
    """Resident bytes."""
    adapter_rss: int
    files: int
    sockets: int
    threads: int


@dataclass
class Ledger:
    """What became of each trajectory. It holds on to none of them, and does not grow while it is written."""

    questions: Mapping[str, Question]
    hopeless: frozenset[str]
    """Question ids."""
    came: dict[tuple[str, int], int]
    """How often, by question id and sample."""
    reward: Any
    statuses: Counter[Status] = field(default_factory=Counter)
    attempts: int = 0
    unlucky: int = 0
    wrong: list[str] = field(default_factory=list)
    """What must not be: a line each."""

    def enter(self, trajectory: Trajectory) -> None:
        id, status = trajectory.question_id, trajectory.status
        self.came[id, trajectory.sample] += 1
        self.statuses[status] += 1
        self.attempts += trajectory.attempts
        failed = status is Status.TOOL_FAILURE
        self.unlucky += failed and id not in self.hopeless
        if not failed and (status is not Status.FINISHED or id in self.hopeless):
            self.wrong.append(f"{trajectory.id} ended as {status}: {trajectory.why}")
        reward = self.reward(trajectory, self.questions[id])
        if reward is None if not failed else reward is not None:
            self.wrong.append(f"{trajectory.id} ended as {status} with reward {reward}")
        if reward == 0:
            self.wrong.append(f"{trajectory.id} said the gold answer and got no reward")

    def faults(self) -> list[str]:
        """What must not be, with the trajectories that did not come once."""
        return [*self.wrong, *(f"{id}#{sample} came {n} times" for (id, sample), n in self.came.items() if n != 1)]


def played(atlas: Task, trajectories: int) -> Script:
    """Each question of the task's gold demonstrations as often as it takes; no worked examples."""
    once = script(atlas, LIMITS.turns, LIMITS.turn_tokens, trajectories, agent("react"))
    rounds = -(-trajectories // len(once.jobs))
    jobs = [replace(job, sample=sample) for sample in range(rounds) for job in once.jobs]
    return replace(once, prompt=once.prompt.bare(), limits=LIMITS, jobs=tuple(jobs[:trajectories]))


def hopeless(played: Script) -> frozenset[str]:
    """The questions (ids) of which a query never gets an answer."""

    def queries(texts: Sequence[str]) -> Iterator[str]:
        for text in texts:
            action = parse_action(text)
            if isinstance(action, Search):
                yield action.query

    return frozenset(id for id, said in played.said.items() if any(cursed(query, SEED) for query in queries(said)))


def sample(done: int, adapter: int) -> Sample:
    """The process as Linux sees it now. `adapter` is the adapter's process id."""
    targets = [_target(path) for path in Path("/proc/self/fd").iterdir()]
    sockets = sum(target.startswith("socket:") for target in targets)
    files = len(targets) - sockets - targets.count("")  # the last is the folder itself, read and closed
    return Sample(done, _rss(os.getpid()), _rss(adapter), files, sockets, threading.active_count())


def slope(samples: Sequence[Sample]) -> float:
    """Resident bytes per trajectory, by least squares over the last three quarters."""
    kept = samples[len(samples) // 4 :]
    return float(np.polyfit([one.done for one in kept], [one.rss for one in kept], 1)[0])


def soak(trajectories: int) -> tuple[dict[str, Any], list[str]]:
    """The row of the result, and what must not be."""
    atlas = task(TaskSettings())
    run = played(atlas, trajectories)
    model = random_model("tiny")
    policy = Replicas(model, ENGINE)
    compile_all(policy.engines[0].programs())
    ledger = Ledger(
        questions={job.question.id: job.question for job in run.jobs},
        hopeless=hopeless(run),
        came={(job.question.id, job.sample): 0 for job in run.jobs},
        reward=atlas.reward("default"),
    )
    every = max(1, trajectories // SAMPLES)
    samples: list[Sample] = []
    with (
        failing_adapter(atlas.corpus(), SEED) as url,
        ToolClient(url, SETTINGS) as tools,
        tempfile.TemporaryDirectory() as folder,
        Journal(Path(folder) / "journal.jsonl") as journal,
    ):
        adapter = tools.check()["pid"]
        began = time.perf_counter()
        made = rollout(
            run.jobs,
            run.agent,
            {Role.ACTOR: Dubbed(policy, in_order(run.said))},
            tools,
            sampling=GREEDY,
            journal=journal,
        )
        for done, trajectory in enumerate(made, start=1):
            ledger.enter(trajectory)
            if done % every == 0:
                samples.append(sample(done, adapter))
                _tell(samples[-1], time.perf_counter() - began)
        seconds = time.perf_counter() - began
        journal_bytes = journal.path.stat().st_size
    return _row(ledger, samples, seconds, journal_bytes, policy), ledger.faults()


def _row(
    ledger: Ledger, samples: Sequence[Sample], seconds: float, journal_bytes: int, policy: Replicas
) -> dict[str, Any]:
    later = samples[len(samples) // 4 :]
    trajectories = len(ledger.came)
    return {
        "trajectories": trajectories,
        "seconds": seconds,
        "slope_bytes_per_trajectory": slope(samples),
        "rss_first_mb": samples[0].rss / 1e6,
        "rss_last_mb": samples[-1].rss / 1e6,
        "rss_most_mb": max(one.rss for one in samples) / 1e6,
        "adapter_slope_bytes_per_trajectory": slope([replace(one, rss=one.adapter_rss) for one in samples]),
        "files": _range([one.files for one in later]),
        "sockets": _range([one.sockets for one in later]),
        "threads": _range([one.threads for one in later]),
        "journal_bytes_per_trajectory": journal_bytes / trajectories,
        "came_once": sum(n == 1 for n in ledger.came.values()),
        "statuses": {str(status): n for status, n in sorted(ledger.statuses.items())},
        "hopeless": sum(id in ledger.hopeless for id, _ in ledger.came),
        "unlucky": ledger.unlucky,
        "attempts": ledger.attempts,
        "parks": sum(engine.stats.parks for engine in policy.engines),
        "samples": [asdict(one) for one in samples],
    }


def _range(values: Sequence[int]) -> str:
    least, most = min(values), max(values)
    return str(most) if least == most else f"{least}-{most}"


def _tell(now: Sample, seconds: float) -> None:
    print(f"{now.done} in {seconds:.0f} s: {now.rss / 1e6:.1f} MB, {now.threads} threads", file=sys.stderr)


def _rss(process: int) -> int:
    pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _target(path: Path) -> str:
    """What an open descriptor is; "" for one that is closed by now."""
    try:
        return os.readlink(path)
    except OSError:
        return ""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--trajectories", type=int, default=20_000)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} trajectories: shows that all runs")
    options = parser.parse_args(arguments)
    keep_compiled(cache_folder() / "compiled")
    about = {**circumstances("benchmarks.soak", "float32"), "engine": asdict(ENGINE), "limits": LENGTHS}
    row, faults = soak(QUICK if options.quick else options.trajectories)
    statuses = ", ".join(f"{n} {status}" for status, n in row["statuses"].items())
    notes = [
        f"{row['came_once']} came once; {statuses}; {row['hopeless']} were hopeless and {row['unlucky']} unlucky; "
        f"{row['attempts']} attempts, {row['parks']} rows parked",
        f"the adapter's own slope: {row['adapter_slope_bytes_per_trajectory']:,.0f} bytes per trajectory",
        *faults,
    ]
    publish(options.json, about, [row], notes)
    show(f"soak, {about['device']}, {about['cores']} cores", COLUMNS, [row], notes)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
