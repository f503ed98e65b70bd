"""Verify a finished run: its own loop is walked again, and each stage's own work done again on what it stored.

Nothing is sampled or trained, no model and no tool is there. What a stage was made from (data, weights, mixtures by
their trajectories) comes out of the walk, so that nothing here knows what a stage is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from rest_jax.config.loader import load
from rest_jax.config.settings import AgentSettings, RestConfig
from rest_jax.core.demonstration import Demonstration
from rest_jax.core.effects import Agent, Role
from rest_jax.core.errors import UserError
from rest_jax.core.events import Listener, silent
from rest_jax.core.trajectory import Trajectory
from rest_jax.models import checkpoint
from rest_jax.models.decoder import Params
from rest_jax.recipes.digest import run_digest
from rest_jax.recipes.improve import MODEL
from rest_jax.recipes.loop import RECORDS, REWARDS
from rest_jax.recipes.run import measure, read_summary, summary_of
from rest_jax.recipes.stages import Done, RunFolder, Work, changed, finished_stages
from rest_jax.recipes.summary import SCHEMA_VERSION, Measured
from rest_jax.recipes.workbench import HEARD, TRAJECTORIES, Player, RolloutSpec
from rest_jax.rollout import store
from rest_jax.rollout.episode import Job
from rest_jax.tasks.registry import task as open_task
from rest_jax.tasks.task import Task

SHOWN = 3
"""Differences of one file that are named; the others are counted."""
OF_THE_WALK = ("splits_read",)
"""Results that tell of how a stage was done, not of what it made."""
OF_THE_CLOCK = ("seconds",)
"""What a row says of the time."""


@dataclass(frozen=True)
class Verified:
    """What came of it."""

    digest: str
    """The run's, as `run-digest` has it."""
    stages: int
    trajectories: int
    differences: tuple[str, ...]
    """A line each; none where all that is stored is what comes out again."""


def verify(run: Path) -> Verified:
    """Score every stored trajectory of a finished run anew, by metric and reward; rebuild mixtures, table and
    comparisons; hash the weights; and compare all of it with what is stored.

    Raises UserError when `run` is no finished run, for a file that is damaged or gone, and where a reward that it names
    is not registered here.
    """
    summary = read_summary(run)
    with walked(run) as walk:
        anew = json.loads(json.dumps(summary_of(walk.config, walk.task, walk.measured, summary["warnings"])))
    audit = walk.audit
    if (version := summary.get("schema_version")) == SCHEMA_VERSION:
        audit.tell("summary.json", _unlike(_timeless(summary), _timeless(anew)))
    else:
        written = f"of schema version {version}, this rest_jax writes {SCHEMA_VERSION}: `rest-jax run` writes it anew"
        audit.tell("summary.json", [written])
    return Verified(run_digest(run), len(audit.stages), audit.trajectories, tuple(audit.differences))


@dataclass(frozen=True)
class Walk:
    """A finished run's loop, walked again."""

    config: RestConfig
    task: Task
    measured: Sequence[Measured]
    audit: Audit


@contextmanager
def walked(run: Path) -> Iterator[Walk]:
    """Walk a finished run's loop over its folder; the audit holds how what comes out differs from what is stored. The
    task is open for as long as the `with` block. Raises as `verify` does."""
    found = {done.name: done for done in finished_stages(run)}
    config = load(run / "config.yaml", RestConfig).value
    with TemporaryDirectory(prefix="rest_jax-") as scratch:
        task = open_task(config.task, Path(scratch) / "data")
        audit = Audit(run, silent, "", {}, [], found=found, scratch=Path(scratch))

        def prompted(stage: str) -> Player:
            shown = audit.done(f"seed-{config.seeds[0]}/{stage}prompted/evaluate-{config.evaluate.split}")
            return Player(Path(), shown.inputs["player"]["weights_digest"], config.agent.bare)

        bench = Stored(task, prompted(""), found, config.agent)
        students = {
            one.label: partial(replace, bench, base=prompted(f"student-{one.label}/")) for one in config.students
        }
        yield Walk(config, task, measure(config, audit, bench, students), audit)


@dataclass
class Audit(RunFolder):
    """A finished run's folder that is only read: a stage's work is done again in a scratch folder, and compared."""

    found: Mapping[str, Done] = field(default_factory=dict)
    scratch: Path = Path()
    differences: list[str] = field(default_factory=list)
    trajectories: int = 0

    def stage(self, name: str, inputs: Mapping[str, Any], work: Work) -> Done:
        """The stage as it was found; how it differs from what the walk comes to is noted."""
        done = self.done(name)
        self.stages.append(done)
        self.tell(name, [f"made from another {', '.join(other)}"] if (other := changed(done.inputs, inputs)) else [])
        try:
            if "weights_digest" in done.results:
                self._weigh(done)
            else:
                self._redo(done, work)
        except _Foreign as error:
            self.tell(name, [str(error)])
        return done

    def done(self, name: str) -> Done:
        """The finished stage of this name. Raises UserError when there is none."""
        if name not in self.found:
            raise UserError(
                f"{self.path}: stage {name} is not finished; repeat `rest-jax run`, which does what is left"
            )
        return self.found[name]

    def tell(self, where: str, unlike: Sequence[str]) -> None:
        """Note differences, the first of them by name."""
        self.differences += [f"{where}: {line}" for line in unlike[:SHOWN]]
        if len(unlike) > SHOWN:
            self.differences.append(f"{where}: and {len(unlike) - SHOWN} more")

    def _weigh(self, done: Done) -> None:
        stored = checkpoint.on_disk(done.folder / MODEL).weights_digest
        if stored != done.results["weights_digest"]:
            self.tell(done.name, [f"weights {stored[:12]}, not {done.results['weights_digest'][:12]} as it noted"])

    def _redo(self, done: Done, work: Work) -> None:
        with TemporaryDirectory(dir=self.scratch) as folder:
            again = Path(folder)
            for stored in (TRAJECTORIES, HEARD):
                if (done.folder / stored).is_file():
                    self.trajectories += len(store.read(done.folder / stored))
                    (again / stored).parent.mkdir(exist_ok=True)
                    (again / stored).symlink_to((done.folder / stored).resolve())
            results = json.loads(json.dumps(dict(work(again))))
            kept = {key: value for key, value in done.results.items() if key not in OF_THE_WALK}
            self.tell(done.name, _unlike(kept, {key: results[key] for key in results if key not in OF_THE_WALK}))
            for name in (REWARDS, RECORDS):
                if (again / name).is_file():
                    self.tell(f"{done.name}/{name}", _unlike(_read(done.folder / name), _read(again / name)))


class _Foreign(Exception):
    """Stored trajectories are not those that the stage's work asks for."""


@dataclass(frozen=True)
class Stored:
    """A workbench that has nothing but what another has made."""

    task: Task
    base: Player
    found: Mapping[str, Done]
    agent: AgentSettings
    emit: Listener = silent

    @property
    def versions(self) -> Mapping[str, str]:
        """The tools' versions that the run noted."""
        return next((done.inputs["tools"] for done in self.found.values() if "tools" in done.inputs), {})

    def named(self, role: Literal[Role.TEACHER, Role.JUDGE]) -> Mapping[str, Any]:
        """A policy behind an endpoint, as the run noted it."""
        inputs = {name: done.inputs for name, done in self.found.items()}
        if role is Role.JUDGE:
            return next((noted["judge"] for noted in inputs.values() if "judge" in noted), {})
        grown = (noted["player"] for noted in inputs.values() if noted.get("grow", {}).get("policy") == "teacher")
        shown = (noted["player"] for name, noted in inputs.items() if "/teacher/" in name)
        return next(iter((*shown, *grown)), {})

    def play(self, folder: Path, player: Player, spec: RolloutSpec) -> list[Trajectory]:
        """The stored trajectories, if they are of these questions, samples and weights."""
        trajectories = store.read(folder / TRAJECTORIES)
        methods = spec.methods or (self.agent.name,)
        _refuse_others(trajectories, _wanted([q.id for q in spec.questions], spec.samples, methods))
        weights = player.weights_digest if spec.policy == "actor" else self.named(Role.TEACHER).get("weights_digest")
        if foreign := {t.weights_digest for t in trajectories} - {weights}:
            raise _Foreign(f"trajectories of other weights ({min(foreign)[:12]}, not {str(weights)[:12]})")
        return trajectories

    def demonstrate(self, folder: Path, demonstrations: Sequence[Demonstration], split: str) -> list[Trajectory]:
        """The stored demonstrations, if they are these."""
        trajectories = store.read(folder / TRAJECTORIES)
        _refuse_others(trajectories, _wanted([d.question.id for d in demonstrations], 1, self.agent.methods))
        return trajectories

    def judge(self, folder: Path, jobs: Sequence[Job], make_agent: Callable[[Job], Agent]) -> list[Trajectory]:
        """What the judge was heard to say, if it was asked this; nobody is asked again."""
        heard = store.read(folder / HEARD)
        _refuse_others(heard, {(f"{job.question.id}#{job.sample}", job.agent) for job in jobs})
        return heard

    def free(self) -> None:
        """There is nothing to let go of."""

    def hand_over(self, player: Player, params: Params) -> None:
        """Nobody will play."""


def _wanted(questions: Sequence[str], samples: int, methods: Sequence[str]) -> set[tuple[str, str]]:
    """The trajectories of a rollout, by id, each with its method."""
    each = range(samples * len(methods))
    return {(f"{id}#{sample}", methods[sample % len(methods)]) for id in questions for sample in each}


def _refuse_others(trajectories: Sequence[Trajectory], wanted: set[tuple[str, str]]) -> None:
    there = {(t.id, t.agent) for t in trajectories}
    if there != wanted or len(there) != len(trajectories):
        raise _Foreign(f"{len(there - wanted)} trajectories that it has no need of, {len(wanted - there)} missing")


def _timeless(summary: Mapping[str, Any]) -> dict[str, Any]:
    """A summary whose rows and comparisons stand under their names, without what the clock says."""
    rows = {row["name"]: {key: row[key] for key in row if key not in OF_THE_CLOCK} for row in summary["rows"]}
    pairs = {f"{c['a']} − {c['b']}, {c['metric']}": c for c in summary["comparisons"]}
    return {**summary, "rows": rows, "comparisons": pairs}


def _unlike(stored: Any, anew: Any, path: str = "") -> list[str]:
    """Where two JSON values differ, a line each: the way there, what is stored, and what comes out again."""
    if isinstance(stored, dict) and isinstance(anew, dict):
        keys = list(dict.fromkeys([*stored, *anew]))
        return [line for key in keys for line in _unlike(stored.get(key), anew.get(key), f"{path}{key}, ")]
    if (before := _by_trajectory(stored)) and (after := _by_trajectory(anew)):
        return _unlike(before, after, path)
    return [] if stored == anew else [f"{path}stored {_short(stored)}, comes to {_short(anew)}"]


def _by_trajectory(value: Any) -> dict[str, Any]:
    """Records by their trajectory; empty for anything else."""
    if not (isinstance(value, list) and all(isinstance(entry, dict) and "question_id" in entry for entry in value)):
        return {}
    return {f"{record['question_id']}#{record['sample']}": record for record in value}


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{path}: missing or damaged; a run that lacks it cannot be verified") from None
