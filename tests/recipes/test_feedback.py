"""Feedback by a judge: its gate, its targets, its rewards; and a whole run with one behind an endpoint."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import rest_jax
from rest_jax.agents.judges.labels import LabelledAnswer, LabelledOutputs, read_labels
from rest_jax.config.judges import AnswersSettings, GateSettings, JudgeSettings, RankingSettings
from rest_jax.config.settings import TaskSettings
from rest_jax.core.effects import Candidate, Finish, Role
from rest_jax.core.errors import UserError
from rest_jax.core.trajectory import Call, Trajectory
from rest_jax.core.transcript import Segment, Source
from rest_jax.evaluation.judging import Spread
from rest_jax.recipes.data import stored
from rest_jax.recipes.digest import run_digest
from rest_jax.recipes.feedback import check_labels, rejudged, reranked
from rest_jax.recipes.mixture import Grown
from rest_jax.recipes.what_if import Wish, what_if
from rest_jax.rollout import store
from rest_jax.tasks.registry import task as open_task
from rest_jax.tasks.splits import Split
from tests.policies.completions_server import Served, serving
from tests.trajectories import trajectory as played

NOBODY = "http://127.0.0.1:9/v1"
LABELS = """\
{"question": "Where?", "answer": "In Oslo.", "reference": "Oslo", "label": true}
{"question": "Where?", "answer": "In Rome.", "reference": "Oslo", "label": false}
"""
CONFIG = """\
extends: {base}
policies:
  teacher: {{url: "{url}", model: teacher, concurrency: 1, {teacher}}}
  judge: {{url: "{url}", model: teacher, concurrency: 1, {judge}}}
judge: {{answers: {{gate: {{labels: {labels}, pairs: {pairs}}}, repetitions: 2, weight: 1.0, tokens: 64}}}}
generations:
  - grow: {{questions: 2, samples: 1, policy: teacher}}
    improve: {{thresholds: [0.5], include_seed: true, steps: 2, rows: 2, length: 320, warmup: 0, checkpoint_every: 1}}
evaluate: {{prompted: 2, pilot: 2, gate: 0, generations: 2, final: 2, split: select, floors: []}}
"""
ANSWER = " I know it. Action: Finish[Oslo]"


def verdict(same: bool) -> str:
    return f"# Compared.\nCheck_Answer(ORIGINAL_QUESTION, ANSWER, REF_ANSWER) = {same} # [END]"


def step(index: int, *texts: str) -> Call:
    candidates = tuple(Candidate((at,), (-1.0,), text, Finish.STOP) for at, text in enumerate(texts))
    return Call(index, "act", 0, Role.ACTOR, (Segment(Source.PROMPT, "?", (9,)),), candidates)


def trajectory(sample: int, *calls: Call, answer: str | None = "Oslo") -> Trajectory:
    return played(question="?", sample=sample, generation=1, answer=answer, calls=calls)


def test_the_first_of_a_ranking_becomes_the_target_and_unread_rankings_change_nothing() -> None:
    made = trajectory(0, step(0, "a", "b", "a", "c"), step(1, "x", "y"), step(2, "x", "y"))
    heard = {"rank:q#0/0": ["#3 > #1 > #2"], "rank:q#0/1": [None], "rank:q#0/2": ["#1"]}
    grown, told = reranked(Grown((made,), {"q#0": 1.0}), heard, 4)
    assert [call.chosen for call in grown.trajectories[0].calls] == [3, 0, 0]
    assert told == "1 of 3 targets replaced, 1 rankings could not be read"


def test_the_share_of_yes_is_a_part_of_the_reward() -> None:
    made = (trajectory(0), trajectory(1), trajectory(2, answer=None), trajectory(3), trajectory(4))
    grown = Grown(made, {"q#0": 1.0, "q#1": 0.0, "q#2": 0.0, "q#3": None, "q#4": 1.0})
    heard = {
        "answer:q#0": ["True", "True", None, "False"],
        "answer:q#1": ["True", "True", "True", "True"],
        "answer:q#4": [None, None, None, None],
    }
    found, spread = rejudged(grown, heard, AnswersSettings(GateSettings("labels.jsonl"), repetitions=4, weight=0.75))
    assert found.rewards == {"q#0": pytest.approx(0.75), "q#1": 0.75, "q#2": 0.0, "q#3": None, "q#4": None}
    # Shares: 2/3, 2/3, 1/2, 1/3. What has no answer is a no, as to `rest-jax judge`; what is masked is none.
    assert spread == Spread(pytest.approx(6.5 / 12), pytest.approx(0.15957, abs=1e-5), 4)


def test_labels_are_read_strictly(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text(LABELS)
    assert read_labels(file, "answers")[1] == LabelledAnswer("Where?", "In Rome.", "Oslo", False)
    file.write_text(LABELS * 50)
    assert len(read_labels(file, "answers")) == 2, "a pair counts once, however often it is written"
    file.write_text('{"seen": "Q", "outputs": ["a", "b"], "best": 2}\n')
    assert read_labels(file, "ranking") == [LabelledOutputs("Q", ("a", "b"), 1)]
    for line, why in [
        ('{"question": "Where?", "answer": " ", "reference": "Oslo", "label": true}', "texts that say something"),
        ('{"question": "Where?", "answer": "a", "reference": "Oslo", "label": 1}', "label is true or false"),
        ("[]", "not a JSON object"),
    ]:
        file.write_text(f"{LABELS}{line}\n")
        with pytest.raises(UserError, match=f"labels.jsonl:3: malformed labelled pair .*{re.escape(why)}"):
            read_labels(file, "answers")
    for line, why in [
        ('{"outputs": ["a", "b"], "best": 2}', "seen is a text"),
        ('{"seen": "Q", "outputs": ["a"], "best": 1}', "outputs are two texts"),
        ('{"seen": "Q", "outputs": ["a", "b"], "best": true}', "best is 1 or 2"),
        ('{"seen": "Q", "outputs": ["a", "b"], "best": [1]}', "best is 1 or 2"),
    ]:
        file.write_text(f"{line}\n")
        with pytest.raises(UserError, match=re.escape(why)):
            read_labels(file, "ranking")


@pytest.fixture(scope="module")
def served(tiny_model: Path) -> Iterator[Served]:
    with serving(tiny_model) as one:
        yield one


def config(base: Path, folder: Path, url: str, *, pairs: int = 2, teacher: str = "", judge: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    labels = folder / "labels.jsonl"
    labels.write_text(LABELS)
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(base=base, url=url, labels=labels, pairs=pairs, teacher=teacher, judge=judge))
    return path


def manifest(run: Path, stage: str) -> dict:
    return json.loads((run / "stages" / "seed-0" / stage / "manifest.json").read_text())


def test_a_qualified_judge_decides_what_is_learned_and_what_it_said_is_never_asked_again(
    tiny_config: Path, tmp_path: Path, served: Served
) -> None:
    """Two answers, of which the judge says yes twice and no twice; the task's own reward has no weight. After the first
    of these verdicts it refuses, and the run is repeated."""
    run, path = tmp_path / "run", config(tiny_config, tmp_path, served.url)
    served.plan(*["fine"] * 5, "401", says=[*map(verdict, (True, False)), ANSWER, ANSWER, verdict(True)])
    with pytest.raises(UserError, match="401"):
        rest_jax.run(path, run_dir=run)
    asked = len(served.asked())
    served.plan(says=[*map(verdict, (True, False, False))])
    summary = rest_jax.run(path, run_dir=run)
    assert len(served.asked()) == asked + 3
    assert manifest(run, "judge-answers")["results"]["balanced_accuracy"] == 1.0
    assert manifest(run, "gen-1/judged")["results"]["asked"] == 4
    row = next(row for row in summary["rows"] if row["name"] == "gen 1")
    assert row["kept_fraction"] == 0.5
    assert row["remark"].endswith("judge's answers: 0.50 ± 0.00 (gate lowered to 2 pairs, 0.85)")
    said = store.read(run / "stages/seed-0/gen-1/judged/judge/trajectories.parquet")
    assert {call.role for one in said for call in one.calls} == {Role.JUDGE}
    assert [one.answer for one in said].count("True") == 2

    # What reads the finished run sees the rewards that it learned from, not the task's own.
    assert sorted(entry.reward or 0 for entry in stored(run)) == [0.0, 1.0]
    (line,) = what_if(run, Wish())
    assert (line.kept, line.mean_reward, line.grown_reward) == (1, 1.0, 0.5)
    shown = json.loads((run / "stages/seed-0/demonstrations/rewards.json").read_text())
    page = (run / "report.html").read_text()
    assert page.count('class="chip">reward 1.00<') == list(shown.values()).count(1.0) + 1

    served.plan(says=[])
    asked = len(served.asked())
    recorded = {role: f"replay: {run / 'replies' / role}.jsonl" for role in ("teacher", "judge")}
    replay = config(tiny_config, tmp_path / "again", NOBODY, **recorded)
    rest_jax.run(replay, run_dir=tmp_path / "again" / "run")
    assert run_digest(tmp_path / "again" / "run") == run_digest(run)
    assert len(served.asked()) == asked


def test_a_judge_that_does_not_qualify_changes_nothing(tiny_config: Path, tmp_path: Path, served: Served) -> None:
    """It is tried once, for all seeds: said yes to both, then it would be right in the second."""
    served.plan(says=[*map(verdict, (True, True)), ANSWER, ANSWER, *map(verdict, (True, False))])
    path = config(tiny_config, tmp_path, served.url)
    summary = rest_jax.run(path, run_dir=tmp_path / "run", overrides=["seeds=[0, 1]"])
    row = next(row for row in summary["rows"] if row["name"] == "gen 1")
    assert row["remark"].count("judge's answers: not qualified (0.50)") == 2
    assert not (tmp_path / "run/stages/seed-1/judge-answers").exists()
    assert row["kept_fraction"] == 0.0
    assert any("judge's answers: not qualified (0.50) on 2 labelled pairs" in line for line in summary["warnings"])
    assert not (tmp_path / "run/stages/seed-0/gen-1/judged").exists()


def test_a_judge_with_too_few_labels_is_not_even_asked(tiny_config: Path, tmp_path: Path, served: Served) -> None:
    served.plan(says=[ANSWER, ANSWER])
    before = len(served.asked())
    summary = rest_jax.run(config(tiny_config, tmp_path, served.url, pairs=100), run_dir=tmp_path / "run")
    assert len(served.asked()) == before + 2
    row = next(row for row in summary["rows"] if row["name"] == "gen 1")
    assert row["remark"].endswith("judge's answers: not qualified (2 of 100 pairs)")


def test_what_a_judge_needs_is_named_at_the_start(tiny_config: Path, tmp_path: Path) -> None:
    path = config(tiny_config, tmp_path, NOBODY)
    with pytest.raises(UserError, match="policies: no judge, who is to be asked"):
        rest_jax.run(path, run_dir=tmp_path / "run", overrides=["policies.judge=null"])
    with pytest.raises(UserError, match=r"nowhere\.jsonl"):
        rest_jax.run(path, run_dir=tmp_path / "run", overrides=["judge.answers.gate.labels=nowhere.jsonl"])


def test_a_judge_is_not_tried_on_what_is_measured(tmp_path: Path) -> None:
    task = open_task(TaskSettings("atlas"))
    train, measured = (task.splits[split][0] for split in (Split.TRAIN, Split.REPORT))
    answers, outputs = tmp_path / "answers.jsonl", tmp_path / "outputs.jsonl"
    judge = JudgeSettings(RankingSettings(GateSettings(str(outputs))), AnswersSettings(GateSettings(str(answers))))

    def write(about_answer: str, about_outputs: str) -> None:
        pair = {"question": about_answer, "answer": "a", "reference": "b", "label": True}
        answers.write_text(json.dumps(pair) + "\n")
        seen = f"Answer it.\nQuestion: {about_outputs}\n"
        outputs.write_text(json.dumps({"seen": seen, "outputs": ["a", "b"], "best": 1}) + "\n")

    write(train.text, train.text)
    check_labels(judge, task)
    for told, file in [((measured.text, train.text), answers), ((train.text, measured.text), outputs)]:
        write(*told)
        with pytest.raises(UserError, match=f"{file}: a pair asks question {measured.id} of report"):
            check_labels(judge, task)


def test_a_ranking_leaves_all_but_the_targets_as_it_was() -> None:
    made = trajectory(0, step(0, "a", "b"))
    grown = Grown((made,), {"q#0": 1.0}, "said before")
    found, _ = reranked(grown, {"rank:q#0/0": ["#2 > #1"]}, 4)
    assert found == replace(grown, trajectories=(replace(made, calls=(replace(made.calls[0], chosen=1),)),))
