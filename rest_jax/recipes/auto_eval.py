"""Auto-eval: answers that are there already, compared with the gold ones by a judge (Aksitov et al. 2023, section 4).

The judge counts only after its gate, as in a run; what it said is recorded, so that a command that is repeated asks
nothing twice.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rest_jax.agents.judges.labels import read_labels
from rest_jax.config.judges import AnswersSettings
from rest_jax.config.policies import PoliciesSettings
from rest_jax.config.settings import AgentSettings, RestConfig
from rest_jax.core.effects import Agent, Role, Sampling, Status
from rest_jax.core.errors import UserError
from rest_jax.core.events import Listener
from rest_jax.core.jsonl import read_rows
from rest_jax.core.trajectory import Trajectory
from rest_jax.evaluation.judging import Agreement, Qualification, agreement, balanced_accuracy, over_repetitions
from rest_jax.models import catalog, tokenizer
from rest_jax.policies.endpoint import EndpointPolicy
from rest_jax.recipes.asking import Answers, Ask, equivalence_of, hear, of_labels, on_answer, verdicts_on
from rest_jax.recipes.endpoints import open_endpoints
from rest_jax.recipes.loop import RECORDS
from rest_jax.recipes.players import config_of_run, evaluations
from rest_jax.recipes.run import read_summary
from rest_jax.recipes.stages import is_run
from rest_jax.rollout.episode import Job
from rest_jax.rollout.no_tools import NoTools
from rest_jax.rollout.runner import rollout
from rest_jax.tasks.registry import task as open_task
from rest_jax.tasks.splits import Reader

TASK = "judge"


@dataclass(frozen=True)
class Answered:
    """What one rollout answered to a question of which the gold answers are known."""

    id: str
    """Of the question."""
    question: str
    golds: tuple[str, ...]
    answer: str
    """Empty where there is none."""
    em: float
    rollout: tuple[int, int]
    """Seed, and place among the answers to its question: a sample's number, and 0 where one was chosen of several."""


@dataclass(frozen=True)
class AutoEval:
    """A row, judged."""

    name: str
    n: int
    """Answers, over all seeds and samples."""
    em: float
    """In [0, 1], of the same answers."""
    judge: str
    """Mean ± std of the share of yes over repetitions, in [0, 1], or why the judge does not count."""
    mean: float | None
    std: float | None
    """Sample standard deviation; None for a single repetition."""
    repetitions: int
    """Rollouts (seeds × samples) times verdicts on each: what mean and std are over."""
    unread: int
    """Verdicts that could not be read: in no share."""


@dataclass(frozen=True)
class Judgement:
    """All of it."""

    gate: Qualification
    rows: tuple[AutoEval, ...]
    agreement: Agreement | None
    """Of the rows' means with the labels that were given; None without labels, or without a judge that counts."""


def auto_eval(
    targets: Sequence[Path],
    config: RestConfig,
    replies: Path,
    *,
    labels: Path | None = None,
    offline: bool = False,
    emit: Listener,
) -> Judgement:
    """Have the config's judge compare the answers of finished runs and of `eval` files with the gold ones.

    `config` says who the judge is (`policies.judge`), how it is asked (`judge.answers`) and whose tokenizer counts
    (`model`); the folder `replies` keeps what it says. `labels` are numbers that people gave to rows. Raises UserError
    for what is missing of these, and for targets without answers.
    """
    settings = None if config.judge is None else config.judge.answers
    if settings is None or config.policies.judge is None:
        raise UserError("judge: nobody is to be asked; set policies.judge and judge.answers (docs/judges.md)")
    given = {} if labels is None else read_given(labels)
    rows = {name: tuple(answers) for name, answers in rows_of(targets)}
    if unknown := sorted(given.keys() - rows.keys()):
        raise UserError(f"{labels}: there is no row '{unknown[0]}'; those judged are {', '.join(rows)}")
    codec = tokenizer.load(catalog.resolve(config.model.name, offline=offline))
    policies = PoliciesSettings(judge=config.policies.judge)
    with open_endpoints(policies, codec, AgentSettings(), replies, offline=offline) as endpoints:
        judge = endpoints[Role.JUDGE]
        judge.speak(judge.own or codec)
        ask = _asking(judge, emit)
        gate = _gate(settings, ask)
        judged = tuple(_judged(name, answers, settings, gate, ask) for name, answers in rows.items())
    pairs = [(row.mean, given[row.name]) for row in judged if row.name in given and row.mean is not None]
    agreed = agreement([mean for mean, _ in pairs], [label for _, label in pairs]) if pairs else None
    return Judgement(gate, judged, agreed)


def read_given(path: Path) -> dict[str, float]:
    """Row → the number that people gave it. Raises UserError that names file and line for whatever is none."""

    def parse(row: dict[str, Any]) -> tuple[str, float]:
        label = row.get("label")
        if not isinstance(row.get("row"), str) or isinstance(label, bool) or not isinstance(label, int | float):
            raise ValueError("row is a row's name, label a number")
        return row["row"], float(label)

    return dict(read_rows(path, parse, "label of a row", '{"row", "label"}'))


def rows_of(targets: Sequence[Path]) -> Iterator[tuple[str, list[Answered]]]:
    """Each row's name and answers; of several targets the names begin with theirs. Raises UserError for two targets of
    one name: labels and replies could not tell them apart."""
    names = [target.absolute().name if is_run(target) else target.stem for target in targets]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"judge: two of these are called '{twice}'; rename one of them, or judge them apart")
    for target, called in zip(targets, names, strict=True):
        before = "" if len(targets) == 1 else f"{called}: "
        for name, answers in _of_run(target) if is_run(target) else _of_file(target):
            yield before + name, answers


def _of_run(run: Path) -> Iterator[tuple[str, list[Answered]]]:
    config, summary = config_of_run(run), read_summary(run)
    with TemporaryDirectory(prefix="rest_jax-") as scratch:
        task = open_task(config.task, Path(scratch))
        asked = {q.id: (q.text, q.golds) for q in task.questions(config.evaluate.split, Reader.EVALUATION)}
    for row in summary["rows"]:
        stages = evaluations(run, row["name"])
        records = [one for done in stages for one in json.loads((done.folder / RECORDS).read_text(encoding="utf-8"))]
        if records:
            yield row["name"], _answered(records, asked)


def _of_file(path: Path) -> Iterator[tuple[str, list[Answered]]]:
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        asked = {id: (one["question"], tuple(one["golds"])) for id, one in row["questions"].items()}
        yield row["name"], _answered(row["records"], asked)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"{path}: neither a run's folder nor a file of `rest-jax eval --json` with its questions (of this version)"
        ) from None


def _answered(records: Sequence[Mapping[str, Any]], asked: Mapping[str, tuple[str, tuple[str, ...]]]) -> list[Answered]:
    """What counts of records: those that are not masked, of questions with a gold answer."""
    places: defaultdict[tuple[int, str], Iterator[int]] = defaultdict(count)
    placed = [(one, next(places[one["seed"], one["question_id"]])) for one in records]
    return [
        Answered(
            one["question_id"],
            *asked[one["question_id"]],
            (one["answer"] or "") if one["status"] == Status.FINISHED.value else "",
            one["em"],
            (one["seed"], place),
        )
        for one, place in placed
        if not one["masked"] and asked[one["question_id"]][1]
    ]


def _gate(settings: AnswersSettings, ask: Ask) -> Qualification:
    """The judge, tried on the labelled pairs; where there are too few it is not asked."""
    gate = settings.gate
    labels = read_labels(Path(gate.labels), "answers")
    accuracy = math.nan
    if len(labels) >= gate.pairs:
        heard = hear(ask, of_labels(labels, settings), seed=0, generation=0, task=TASK)
        accuracy = balanced_accuracy([pair.label for pair in labels], verdicts_on(labels, heard))
    return Qualification(len(labels), accuracy, gate.pairs, gate.balanced_accuracy)


def _judged(
    name: str, answers: Sequence[Answered], settings: AnswersSettings, gate: Qualification, ask: Ask
) -> AutoEval:
    em = sum(one.em for one in answers) / len(answers) if answers else math.nan
    if not gate.qualified:
        return AutoEval(name, len(answers), em, gate.cell(""), None, None, 0, 0)
    matters = [
        equivalence_of(_id(name, one), one.question, one.answer, one.golds, settings)
        for one in answers
        if one.answer.strip()
    ]
    heard = hear(ask, matters, seed=0, generation=0, task=TASK)
    repetitions = _repetitions(name, answers, heard, settings.repetitions)
    spread = over_repetitions(repetitions)
    unread = sum(verdict is None for repetition in repetitions for verdict in repetition)
    mean, std = (None if math.isnan(number) else number for number in (spread.mean, spread.std))
    return AutoEval(name, len(answers), em, gate.cell(spread), mean, std, spread.n, unread)


def _repetitions(name: str, answers: Sequence[Answered], heard: Answers, times: int) -> list[list[bool | None]]:
    """The verdicts on the answers of each rollout, each time: ten rollouts judged once are the paper's ten repetitions,
    and one rollout judged ten times has ten as well."""
    repetitions: defaultdict[tuple[tuple[int, int], int], list[bool | None]] = defaultdict(list)
    for one in answers:
        said = on_answer(heard, _id(name, one), times, answered=bool(one.answer.strip()))
        for time, verdict in enumerate(said):
            repetitions[one.rollout, time].append(verdict)
    return list(repetitions.values())


def _id(name: str, one: Answered) -> str:
    seed, place = one.rollout
    return f"answer:{name}/{seed}/{one.id}#{place}"


def _asking(judge: EndpointPolicy, emit: Listener) -> Ask:
    """Has this endpoint play jobs. It is looked at when it fails one: who no longer answers stops the command."""

    def ask(jobs: Sequence[Job], make_agent: Callable[[Job], Agent]) -> list[Trajectory]:
        heard = []
        roles = {Role.ACTOR: judge, Role.JUDGE: judge}
        for said in rollout(jobs, make_agent, roles, NoTools(), sampling=Sampling(0.0), emit=emit, stage="judge"):
            if said.status is Status.TOOL_FAILURE:
                judge.check()
            heard.append(said)
        return heard

    return ask


def as_json(judgement: Judgement) -> dict[str, Any]:
    """What `rest-jax judge --json` writes; null where nothing was measured."""
    return {
        "gate": {**_numbers(asdict(judgement.gate)), "qualified": judgement.gate.qualified},
        "rows": [_numbers(asdict(row)) for row in judgement.rows],
        "agreement": None if judgement.agreement is None else _numbers(asdict(judgement.agreement)),
    }


def _numbers(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in fields.items()}
